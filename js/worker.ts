// What runs in the Worker of `init({ worker: true })`: instances, one after another, and what they reach of the outside.
// The page has their owner, and speaks with them over a port that it gives first, together with the compiled module. What can't
// wait for that comes past it.

import type { FromLife, FromWorker, ToWorker, ToNewWorker } from "./boundary.js";
import { createInstance } from "./instance.js";
import { LocalLife, wordsOf } from "./life.js";
import { buffersOf, PageAsked } from "./worker-port.js";
import { World } from "./world.js";

let hear: (message: ToWorker) => void = () => undefined;

addEventListener("message", ({ data }: MessageEvent<ToNewWorker | ToWorker>) => {
  if ("port" in data) hear = serve(data);
  else hear(data);
});

/** Gives what hears the page. */
function serve({ module, port }: ToNewWorker): (message: ToWorker) => void {
  const post = (message: FromWorker) => port.postMessage(message, buffersOf(message));
  const page = new PageAsked(post);
  const world = new World(page, post);
  let life: LocalLife | undefined;

  const begin = () => {
    const said = (message: FromLife) =>
      post(message.type === "died" ? { ...message, cause: wordsOf(life?.cause) } : message);
    try {
      life = new LocalLife(module, createInstance, world, said);
      life.setBusy(false);
      post({ type: "begun" });
    } catch (thrown) {
      life = undefined;
      post({ type: "died", cause: wordsOf(thrown) });
    }
  };

  const hear = (message: ToWorker) => {
    if (message.type === "begin") begin();
    else if (message.type === "ping") post({ type: "pong" });
    else if (message.type === "answer") page.answer(message.asked, message.answer);
    else life?.tell(message);
  };
  port.onmessage = ({ data }: MessageEvent<ToWorker>) => hear(data);
  return hear;
}
