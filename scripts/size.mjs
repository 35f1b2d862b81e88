// What a page loads of the package, gzipped: its WebAssembly and its JavaScript, bundled and minified as an app's build does it.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { buildPackage } from "./build/package.mjs";
import { wasmFiles } from "./build/wasm.mjs";
import { pkg } from "./paths.mjs";
import { main, Stop } from "./run.mjs";
import { setup } from "./setup.mjs";

/** Bytes, gzipped, of wasm and JavaScript together: what was reached. They may only fall. */
export const bars = {
  /** What every page loads, to train and to sample. */
  first: 132_900,
  /** What a page loads besides, with its first training run: all that is deferred, and the JavaScript of runs. */
  deferred: 96_600,
};

/** Bytes, raw and gzipped, of each file, and of the two sets together. */
export async function measure() {
  const { build } = await import("esbuild");
  const { outputFiles, metafile } = await build({
    entryPoints: [join(pkg, "index.js")],
    outdir: join(pkg, "bundled"),
    bundle: true,
    // What is imported only when it is needed becomes a file of its own.
    splitting: true,
    minify: true,
    write: false,
    metafile: true,
    format: "esm",
    target: "es2022",
    // Node's own modules, which no page loads.
    external: ["node:*"],
    logLevel: "error",
  });
  const outputs = Object.entries(metafile.outputs).map(([path, output], i) => ({
    path,
    ...output,
    contents: outputFiles[i].contents,
  }));
  /** A module with all that it imports at once, beside what was loaded before. */
  const loaded = (module, before = new Set()) => {
    const found = new Set();
    const visit = ({ path, imports }) => {
      if (before.has(path) || found.has(path)) return;
      found.add(path);
      for (const { path, kind } of imports) {
        const next = outputs.find((output) => output.path === path);
        if (kind === "import-statement" && next) visit(next);
      }
    };
    visit(outputs.find(({ entryPoint }) => entryPoint?.endsWith(`/${module}`)));
    return found;
  };
  const weigh = (...files) => ({
    raw: files.reduce((sum, bytes) => sum + bytes.length, 0),
    gzipped: files.reduce((sum, bytes) => sum + gzipSync(bytes, { level: 9 }).length, 0),
  });
  const set = (wasmFile, modules) => {
    const wasm = weigh(readFileSync(join(pkg, wasmFile)));
    const js = weigh(...outputs.filter(({ path }) => modules.has(path)).map(({ contents }) => contents));
    return { wasm, js, total: wasm.gzipped + js.gzipped };
  };
  const first = loaded("index.js");
  return {
    first: set(wasmFiles.first, first),
    deferred: set(wasmFiles.second, loaded("run.js", first)),
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await main(async () => {
    await setup("start");
    await buildPackage();
    const sizes = await measure();
    const line = (name, { raw, gzipped }) =>
      console.log(
        `${name.padEnd(11)} ${raw.toLocaleString("en").padStart(9)} B, gzipped ${gzipped.toLocaleString("en").padStart(9)} B`,
      );
    const what = {
      first: "A page loads",
      deferred: "With its first training run it loads besides",
    };
    for (const [name, { wasm, js, total }] of Object.entries(sizes)) {
      line("wasm", wasm);
      line("JavaScript", js);
      console.log(
        `${what[name]} ${(total / 1000).toFixed(1)} kB gzipped; the bar is ${bars[name] / 1000} kB\n`,
      );
    }
    if (Object.entries(sizes).some(([name, { total }]) => total > bars[name]))
      throw new Stop("Over the bar.");
  });
}
