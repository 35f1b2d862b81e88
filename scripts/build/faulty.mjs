// The client's wasm as tests make it panic: the same code, with places in it where a fault strikes when it was armed. The
// package never has it.
import { join, relative } from "node:path";
import { root, target } from "../paths.mjs";
import { step } from "./fresh.mjs";
import { buildGlue } from "./glue.mjs";
import { wasmInputs } from "./package.mjs";
import { buildWasm, wasmEnv, wasmFiles } from "./wasm.mjs";

/** Has `instance.js` and `tinkex_bg.wasm`, to be taken in the place of those in `pkg/`. */
export const faulty = join(target, "faulty");

const features = ["fault-injection"];

export function buildFaulty() {
  const out = join(target, "wasm-pack-faulty");
  const made = (name) => relative(root, join(faulty, name));
  return step(
    "wasm with faults",
    {
      inputs: [...wasmInputs, "scripts/build/faulty.mjs"],
      outputs: [...Object.values(wasmFiles), "instance.js"].map(made),
      settings: JSON.stringify(wasmEnv),
    },
    async () => {
      await buildWasm({ features, out, to: faulty });
      await buildGlue(join(out, "tinkex.js"), join(faulty, "instance.js"));
    },
  );
}
