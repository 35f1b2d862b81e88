// A page that has the built package, for tests that run in a browser without an app around it.
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { faulty } from "../../scripts/build/faulty.mjs";
import { wasmFiles } from "../../scripts/build/wasm.mjs";
import { pkg, root } from "../../scripts/paths.mjs";

/**
 * Resolves to a folder with an `index.html` that runs `entry`, a module of the tests' that imports "tinkex". Give it to a sandbox as
 * `--static`, so that the page and the service are of one origin, or to `serveFolder`. It is deleted after the test.
 * With `faults`, the client is the build that panics where support/faulty-instance.mjs is told to.
 */
export async function pageOf(t, entry, { faults = false } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "tinkex-page-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  await build({
    // The second is what `init({ worker: true })` looks for beside the first.
    entryPoints: { page: entry, worker: join(pkg, "worker.js") },
    outdir: folder,
    absWorkingDir: root,
    // By its name the tests would not find it: they are a package of their own, to keep their tools apart.
    alias: { tinkex: join(pkg, "index.js") },
    bundle: true,
    format: "esm",
    target: "es2022",
    external: ["node:*"],
    logLevel: "error",
    plugins: faults ? [withFaults] : [],
  });
  // Where the package looks for it: beside itself, and that is in page.js now.
  for (const name of Object.values(wasmFiles))
    copyFileSync(join(faults ? faulty : pkg, name), join(folder, name));
  const head = '<!doctype html><html lang="en"><title>a test</title><link rel="icon" href="data:," />';
  writeFileSync(join(folder, "index.html"), `${head}<script type="module" src="./page.js"></script></html>`);
  return folder;
}

const withFaults = {
  name: "faults",
  setup(esbuild) {
    const instance = join(root, "tests/support/faulty-instance.mjs");
    esbuild.onResolve({ filter: /^\.\/instance\.js$/ }, () => ({ path: instance }));
    esbuild.onResolve({ filter: /^tinkex-faulty$/ }, () => ({ path: join(faulty, "instance.js") }));
  },
};
