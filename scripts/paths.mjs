// Where things are: the checkout, what is built in it, and the cache that outlives a checkout.
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
export const pkg = join(root, "pkg");
export const consoleDist = join(root, "www", "dist");

/** Cargo's target folder, shared by the native and the wasm build: their toolchains keep them apart in it. */
export const target = resolve(root, process.env["CARGO_TARGET_DIR"] ?? "target");

/** Tools that are costly to build, keyed by version, so that a fresh clone finds them. */
export const cache = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "tinkex");

export const sandboxBinary = join(target, "release", "tinkex-sandbox");
