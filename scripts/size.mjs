// What a page loads of the package, gzipped: the one .wasm and its JavaScript, bundled and minified as an app's build does it.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { buildPackage } from "./build/package.mjs";
import { pkg } from "./paths.mjs";
import { main, Stop } from "./run.mjs";
import { setup } from "./setup.mjs";

/** Bytes, gzipped, of wasm and JavaScript together: what was reached with training runs and telemetry in it. It may only fall. */
export const bar = 277_900;

/** Bytes, raw and gzipped, of the wasm and of the JavaScript. */
export async function measure() {
  const { build } = await import("esbuild");
  const bundle = await build({
    entryPoints: [join(pkg, "index.js")],
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    target: "es2022",
    // Node's own modules, which no page loads.
    external: ["node:*"],
    logLevel: "error",
  });
  const weigh = (bytes) => ({ raw: bytes.length, gzipped: gzipSync(bytes, { level: 9 }).length });
  const wasm = weigh(readFileSync(join(pkg, "tinkex_bg.wasm")));
  const js = weigh(bundle.outputFiles[0].contents);
  return { wasm, js, total: wasm.gzipped + js.gzipped };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await main(async () => {
    await setup("start");
    await buildPackage();
    const { wasm, js, total } = await measure();
    const line = (name, { raw, gzipped }) =>
      console.log(
        `${name.padEnd(11)} ${raw.toLocaleString("en").padStart(9)} B, gzipped ${gzipped.toLocaleString("en").padStart(9)} B`,
      );
    line("wasm", wasm);
    line("JavaScript", js);
    console.log(`a page loads ${(total / 1000).toFixed(1)} kB gzipped; the bar is ${bar / 1000} kB`);
    if (total > bar) throw new Stop("Over the bar.");
  });
}
