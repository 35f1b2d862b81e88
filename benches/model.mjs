// `npm run bench -- model`: tokens per second of training and sampling, native and in wasm under Node.
import { spawnSync } from "node:child_process";
import { wasmProbe } from "../crates/model/tests/wasm-probe.mjs";
import { root, target } from "../scripts/paths.mjs";

/** As natively: the fastest of so many. */
const repeats = 5;

const { status } = spawnSync(
  "cargo",
  ["run", "--quiet", "--locked", "--release", "-p", "tinkex-model", "--example", "bench_model"],
  { cwd: root, stdio: "inherit", env: { ...process.env, CARGO_TARGET_DIR: target } },
);
if (status !== 0) throw new Error("the native benchmark failed; cargo says why above");

for (const variant of ["simd128", "plain"]) {
  const probe = await wasmProbe(variant);
  const trained = rate(() => probe.train(2));
  const sampled = rate(() => probe.sample(1));
  console.log(`wasm, ${variant}: training ${trained} tokens/s, sampling ${sampled} tokens/s`);
}

function rate(work) {
  work();
  let best = 0;
  for (let i = 0; i < repeats; i += 1) {
    const began = performance.now();
    const tokens = work();
    best = Math.max(best, (tokens * 1000) / (performance.now() - began));
  }
  return Math.round(best);
}
