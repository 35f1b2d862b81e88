// The client's wasm: compiled by a pinned nightly so that it unwinds, then made small.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { pkg, root, target } from "../paths.mjs";
import { nightly } from "../pins.mjs";
import { run, Stop } from "../run.mjs";
import { toolFolder, tools } from "../setup/wasm-tools.mjs";
import { fitted } from "./glue-text.mjs";
import { shrink } from "./shrink.mjs";

/** wasm-pack's output: the wasm and its glue, from which `pkg/` takes what is published. */
export const wasmPackOut = join(target, "wasm-pack");

/** The package's two files of WebAssembly. */
export const wasmFiles = { first: "tinkex_bg.wasm", second: "tinkex_deferred_bg.wasm" };

const flags = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS";

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
  [flags]: [
    ...["-Cpanic=unwind", "-Cllvm-args=-wasm-use-legacy-eh=true"],
    // Generic code of the standard library is compiled with ours, where the optimizer sees what can't unwind.
    "-Zshare-generics=no",
    // A panic says file and line.
    "-Zlocation-detail=file,line",
    // `{:?}` writes nothing in the wasm: it is for those who debug, and the client's own words don't use it.
    "-Zfmt-debug=none",
    // Functions keep their own names, by which they come into one file or the other; equal ones become one later.
    "-Zmerge-functions=disabled",
    // Constants keep segments of their own, and so can go with the file whose code points to them.
    "-Clink-arg=--no-merge-data-segments",
    // Whether that can be told by an address alone is checked: see relocations.mjs.
    "-Clink-arg=--emit-relocs",
    // Half of what is usual, since nothing here recurses deeply: behind it addresses are a byte shorter.
    "-Clink-arg=-zstack-size=524288",
    // Code after a destructor needs no way out for its panic: none leaves one, see `destructor` in `crates/supervise`.
    "-Zpanic-in-drop=abort",
  ].join(" "),
};

/** The places of panics, which are in the wasm, name no folder of the machine that built it. */
function placesFromHere() {
  const rustc = { encoding: "utf8", env: { ...process.env, RUSTUP_TOOLCHAIN: nightly.name } };
  const sysroot = execFileSync("rustc", ["--print", "sysroot"], rustc).trim();
  const cargoHome = process.env["CARGO_HOME"] ?? join(homedir(), ".cargo");
  const folders = [join(sysroot, "lib/rustlib/src/rust/library"), join(cargoHome, "registry", "src")];
  return folders.map((folder) => `--remap-path-prefix=${folder}=`).join(" ");
}

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
    {
      cwd: root,
      env: {
        ...wasmEnv,
        [flags]: `${wasmEnv[flags]} ${placesFromHere()}`,
        PATH: [...folders, process.env["PATH"]].join(delimiter),
      },
    },
  );
  const small = { first: join(out, "first.wasm"), second: join(out, "second.wasm") };
  const names = await shrink(join(out, "tinkex_bg.wasm"), small);
  const glue = join(out, "tinkex.js");
  writeFileSync(glue, fitted(readFileSync(glue, "utf8"), names, importsOf(Object.values(small))));
  mkdirSync(to, { recursive: true });
  for (const [made, name] of [
    [small.first, wasmFiles.first],
    [small.second, wasmFiles.second],
  ]) {
    // Copied under another name first: whoever reads the package meanwhile sees the old wasm or the new one.
    copyFileSync(made, join(to, `${name}.new`));
    renameSync(join(to, `${name}.new`), join(to, name));
  }
}

/** The names of what these files import. */
function importsOf(files) {
  const modules = files.map((file) => new WebAssembly.Module(readFileSync(file)));
  return new Set(modules.flatMap((module) => WebAssembly.Module.imports(module).map(({ name }) => name)));
}
