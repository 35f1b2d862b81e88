// In Node, Deno and Bun: nothing to configure. `worker` as the second argument puts the client into a worker.
import { init } from "tinkex";
import { twoSteps } from "./two-steps.mjs";

const [, , server, where] = process.argv;
await init({ worker: where === "worker" });
console.log(JSON.stringify(await twoSteps(server)));
// A worker of Deno's keeps its process for as long as it is there.
if (where === "worker") globalThis.Deno?.exit();
