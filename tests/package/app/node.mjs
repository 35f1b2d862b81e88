// In Node: nothing to configure.
import { init } from "tinkex";
import { twoSteps } from "./two-steps.mjs";

await init();
console.log(JSON.stringify(await twoSteps(process.argv[2])));
