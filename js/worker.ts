// What runs in the Worker of `init({ worker: true })`: instances, one after another, and what they reach of the outside.
// The page has their owner, and speaks with them over a port that it gives first, together with the compiled module.

import type { FromLife, FromWorker, ToWorker } from "./boundary.js";
import { createInstance } from "./instance.js";
import { LocalLife, wordsOf } from "./life.js";
import { buffersOf, PageAsked } from "./worker-port.js";
import { World } from "./world.js";

addEventListener("message", ({ data }: MessageEvent<{ module: WebAssembly.Module; port: MessagePort }>) =>
  serve(data.module, data.port),
);

function serve(module: WebAssembly.Module, port: MessagePort): void {
  const post = (message: FromWorker) => port.postMessage(message, buffersOf(message));
  const page = new PageAsked(post);
  const world = new World(page, post);
  let life: LocalLife | undefined;

  const begin = () => {
    const hear = (message: FromLife) => {
      if (message.type !== "died") return post(message);
      // In a microtask: the dying call is still on the stack, and says only later what killed it.
      const dead = life;
      queueMicrotask(() => post({ type: "died", cause: wordsOf(dead?.cause) }));
    };
    try {
      life = new LocalLife(module, createInstance, world, hear);
      life.setBusy(false);
      post({ type: "begun" });
    } catch (thrown) {
      life = undefined;
      post({ type: "died", cause: wordsOf(thrown) });
    }
  };

  port.onmessage = ({ data }: MessageEvent<ToWorker>) => {
    if (data.type === "begin") begin();
    else if (data.type === "ping") post({ type: "pong" });
    else if (data.type === "answer") page.answer(data.asked, data.answer);
    else life?.tell(data);
  };
}
