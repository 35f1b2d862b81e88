// The versions that are not in a lock file of cargo's or npm's, each in one place.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./paths.mjs";

const toolchainFile = readFileSync(join(root, "rust-toolchain.toml"), "utf8");
const cargoLock = readFileSync(join(root, "Cargo.lock"), "utf8");

/** Native crates and tests: what `rust-toolchain.toml` says. */
export const stable = {
  name: /^channel\s*=\s*"(.+)"/m.exec(toolchainFile)[1],
  components: [.../^components\s*=\s*\[(.*)\]/m.exec(toolchainFile)[1].matchAll(/"(.+?)"/g)].map((m) => m[1]),
  targets: [],
  why: "for everything native",
};

/** The wasm build alone: unwinding needs a standard library built for it, which stable can't do. */
export const nightly = {
  name: "nightly-2026-05-20",
  components: ["rust-src"],
  targets: ["wasm32-unknown-unknown"],
  why: "for the wasm build alone, which rebuilds std to unwind",
};

/** The command must be of the very version of the crate, or the glue does not fit the wasm. */
export const wasmBindgen = /name = "wasm-bindgen"\nversion = "(.+)"/.exec(cargoLock)[1];
export const wasmPack = "0.15.1";
