// Builds the engine for wasm, with and without vectors, and gives its exports: what the test of the bits and the benchmark share.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root, target } from "../../../scripts/paths.mjs";
import { nightly } from "../../../scripts/pins.mjs";

const variants = { plain: "", simd128: "-Ctarget-feature=+simd128" };

/** `variant`: "plain" or "simd128". */
export async function wasmProbe(variant) {
  const folder = join(target, `model-${variant}`);
  const wasm32 = "wasm32-unknown-unknown";
  const args = [
    "build",
    "--locked",
    "--release",
    "-p",
    "tinkex-model",
    "--example",
    "wasm_probe",
    "--target",
    wasm32,
  ];
  const { status } = spawnSync("cargo", args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: {
      ...process.env,
      RUSTUP_TOOLCHAIN: nightly.name,
      CARGO_TARGET_DIR: folder,
      CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS: variants[variant],
    },
  });
  if (status !== 0)
    throw new Error(`cargo could not build the engine for wasm (${variant}); it says why above`);
  const bytes = readFileSync(join(folder, wasm32, "release", "examples", "wasm_probe.wasm"));
  const { instance } = await WebAssembly.instantiate(bytes, {});
  return instance.exports;
}
