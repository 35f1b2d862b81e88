// The npm package in pkg/: the wasm, its glue as a factory, and js/ compiled. Nothing else is in there.
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pkg, root } from "../paths.mjs";
import { run } from "../run.mjs";
import { step } from "./fresh.mjs";
import { buildGlue } from "./glue.mjs";
import { buildWasm, wasmEnv, wasmFiles } from "./wasm.mjs";

/** What the client's wasm is made of. */
export const wasmInputs = [
  "src",
  "crates/supervise",
  "crates/protocol",
  "crates/journal",
  "crates/wasm",
  "crates/gloo-timers",
  "Cargo.toml",
  "Cargo.lock",
  "scripts/build",
  "scripts/pins.mjs",
  "package-lock.json",
];

export async function buildPackage() {
  await step(
    "wasm",
    {
      inputs: wasmInputs,
      outputs: [...Object.values(wasmFiles), "instance.js"].map((name) => `pkg/${name}`),
      settings: JSON.stringify(wasmEnv),
    },
    async () => {
      await buildWasm();
      await buildGlue();
    },
  );
  await step(
    "classes",
    {
      inputs: ["js", "tsconfig.json", "scripts/build/package.mjs", "package-lock.json"],
      outputs: ["pkg/index.js", "pkg/index.d.ts"],
    },
    buildClasses,
  );
}

async function buildClasses() {
  mkdirSync(pkg, { recursive: true });
  // What a source that is gone had been compiled to would otherwise be published for ever.
  for (const name of readdirSync(pkg)) {
    if (![...Object.values(wasmFiles), "instance.js"].includes(name))
      rmSync(join(pkg, name), { recursive: true });
  }
  await run(process.execPath, [join(root, "node_modules", "typescript", "bin", "tsc"), "-p", root]);
  // The compiler reads declarations written by hand and does not pass them on.
  const declarations = join(root, "js", "instance.d.ts");
  if (existsSync(declarations)) copyFileSync(declarations, join(pkg, "instance.d.ts"));
}
