// The client's wasm: compiled by a pinned nightly so that it unwinds, then made small.
import { copyFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { pkg, root, target } from "../paths.mjs";
import { nightly } from "../pins.mjs";
import { run, Stop } from "../run.mjs";
import { toolFolder, tools } from "../setup/wasm-tools.mjs";
import { shrink } from "./shrink.mjs";

/** wasm-pack's output: the wasm and its glue, from which `pkg/` takes what is published. */
export const wasmPackOut = join(target, "wasm-pack");

/**
 * What the wasm build alone sets. The standard library is rebuilt to unwind; legacy exception handling is what Node 20
 * reads, and every newer runtime as well. By environment, since a config file would rebuild std for the host's crates too.
 */
export const wasmEnv = {
  RUSTUP_TOOLCHAIN: nightly.name,
  CARGO_TARGET_DIR: target,
  CARGO_UNSTABLE_BUILD_STD: "std,panic_unwind",
  // The standard library's own choice of small algorithms (sorting, printing numbers), and none of its backtraces.
  CARGO_UNSTABLE_BUILD_STD_FEATURES: "panic-unwind,optimize_for_size",
  CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS: [
    ...["-Cpanic=unwind", "-Cllvm-args=-wasm-use-legacy-eh=true"],
    // Generic code of the standard library is compiled with ours, where the optimizer sees what can't unwind.
    "-Zshare-generics=no",
    // `{:?}` writes nothing in the wasm: it is for those who debug, and the client's own words don't use it.
    "-Zfmt-debug=none",
  ].join(" "),
};

/** Compiles the client into the folder `to`; what lies on the way there goes into `out`. */
export async function buildWasm({ features = [], out = wasmPackOut, to = pkg } = {}) {
  const folders = tools.map((tool) => {
    const folder = toolFolder(tool);
    if (folder === undefined)
      throw new Stop(`${tool.crate} ${tool.version} is missing. \`npm run build\` installs it.`);
    return folder;
  });
  await run(
    "wasm-pack",
    [
      ...[
        "build",
        join(root, "crates", "wasm"),
        "--target",
        "web",
        "--mode",
        "no-install",
        "--profile",
        "wasm",
      ],
      ...["--out-dir", out, "--out-name", "tinkex", "--no-pack", "--no-opt"],
      ...(features.length > 0 ? ["--", "--features", features.join()] : []),
    ],
    { cwd: root, env: { ...wasmEnv, PATH: [...folders, process.env["PATH"]].join(delimiter) } },
  );
  const small = join(out, "small.wasm");
  const names = await shrink(join(out, "tinkex_bg.wasm"), small);
  const glue = join(out, "tinkex.js");
  writeFileSync(
    glue,
    readFileSync(glue, "utf8").replace(/\b\w+\b/g, (word) => names.get(word) ?? word),
  );
  mkdirSync(to, { recursive: true });
  // Copied under another name first: whoever reads the package meanwhile sees the old wasm or the new one.
  copyFileSync(small, join(to, "tinkex_bg.wasm.new"));
  renameSync(join(to, "tinkex_bg.wasm.new"), join(to, "tinkex_bg.wasm"));
}
