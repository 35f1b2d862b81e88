// Turns wasm-bindgen's glue, one module with one state, into a factory: a glue of its own for each instance of the wasm.
//
// An instance can die, and its successor must share nothing with it: not the memory's views, not the table of objects, not the
// timers. So the glue becomes the body of a function. For the owner to give, it has as parameters the `host` that the instance
// speaks to, and the globals by which a dead instance's callbacks could come back, which shadow the real ones.
import { writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { pkg } from "../paths.mjs";
import { wasmPackOut } from "./wasm.mjs";

/** What `InstanceGlobals` in js/instance.d.ts lists, beside the host. The finalizers of a dead instance call into its memory like any timer. */
export const shadowed = ["setTimeout", "clearTimeout", "queueMicrotask", "FinalizationRegistry"];

export async function buildGlue(glue = join(wasmPackOut, "tinkex.js"), out = join(pkg, "instance.js")) {
  const { build, transform } = await import("esbuild");
  const bundle = await build({
    // `export *` leaves out the default export: the loader that looks beside the module for the wasm. Ours does that.
    stdin: { contents: `export * from ${JSON.stringify(`./${basename(glue)}`)}`, resolveDir: dirname(glue) },
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    treeShaking: true,
    logLevel: "warning",
    logOverride: { "empty-import-meta": "silent" }, // in the loader that is left out
  });
  const source = `export function createInstance(host, { ${shadowed.join(", ")} }) {\n${bodyOf(bundle.outputFiles[0].text)}\n}`;
  for (const unwanted of ["import.meta", "import(", "eval(", "new Function("]) {
    if (source.includes(unwanted))
      throw new Error(`The glue has \`${unwanted}\`, which the package promises not to need`);
  }
  if (source.includes("WebAssembly.Exception"))
    throw new Error("The glue marks what is thrown in ways that glue-text.mjs does not know");
  const { code } = await transform(source, { minify: true, format: "esm", target: "es2022" });
  writeFileSync(
    out,
    `// A glue of its own for each instance of the wasm. Made by scripts/build/glue.mjs.\n${code}`,
  );
}

/** A module as the body of a function that gives what the module exports. */
function bodyOf(module) {
  const exported = /^export \{([^}]*)\};\s*$/m;
  if (!exported.test(module))
    throw new Error("the bundled glue has no list of exports at its end: see glue.mjs");
  return module.replace(exported, (_, names) => `return {${names.replace(/(\S+) as (\S+)/g, "$2: $1")}};`);
}
