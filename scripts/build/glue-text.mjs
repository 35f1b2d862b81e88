// The text of the glue that wasm-bindgen wrote, made to fit the two small files: under their short names, without what they don't
// ask for, and with a way to the second one. What it looks for it must find, so that another wasm-bindgen is noticed.
import { firstFile, functionTable, letIn } from "./split.mjs";

/** `names`: those that are others now. `asked`: the names of all imports of the two files. */
export function fitted(glue, names, asked) {
  const shortened = glue.replace(/\b\w+\b/g, (word) => names.get(word) ?? word);
  return withSecond(begun(withoutUnasked(unguarded(shortened), asked)));
}

/**
 * What JavaScript throws goes through the wasm as it is, and what comes out of the wasm to whoever called it: the owner tells a
 * trap from the rest (see imports.mjs, and js/life.ts).
 */
function unguarded(glue) {
  const told = [
    // Of imports.
    [/function\(\) \{ return wrapError\((function [^]*?), arguments\); \}/g, "$1"],
    [/new WebAssembly\.Exception\(__wbindgen_wrapped_jstag, \[(.*)\]\)/g, "$1"],
    // Of exports, and of closures.
    [
      / *__wbg_call_guard\(\);\n *try \{\n([^]*?) *\} catch\(e\) \{\n *__wbg_handle_catch\(e\);\n *\}\n/g,
      "$1",
    ],
    [/^ *(const )?__wbindgen_(wrapped_)?jstag.*\n/gm, ""],
  ];
  return told.reduce((text, [what, by]) => replaced(text, what, by), glue);
}

/** Without imports that neither file asks for. */
function withoutUnasked(glue, asked) {
  const imports = /^ {8}(\w+): function[^]*?^ {8}\},\n/gm;
  return replaced(glue, imports, (whole, name) => (asked.has(name) ? whole : ""));
}

/** With one way to make the first file an instance, and no other. */
function begun(glue) {
  const start = /function __wbg_finalize_init[^]*? {4}(wasm\.\w+\(\);)\n {4}return wasm;/.exec(glue)?.[1];
  if (!start) throw changed("__wbg_finalize_init");
  const begin =
    "export function begin(module) {\n    wasm = new WebAssembly.Instance(module, __wbg_get_imports()).exports;\n" +
    `    ${start}\n}\n`;
  return replaced(glue, /^export \{ initSync.*\n/m, begin);
}

/** The second file is made an instance, over the first one, and then let in. */
function withSecond(glue) {
  const head = `export function ${letIn}() {\n`;
  const open =
    `export function ${letIn}(module) {\n` +
    // A number is a function's place.
    `    const get = (own, name) => own[name] ?? own.${functionTable}.get(+name);\n` +
    `    const imports = { ...__wbg_get_imports(), ${firstFile}: new Proxy(wasm, { get }) };\n` +
    "    const second = new WebAssembly.Instance(module, imports).exports;\n";
  return replaced(replaced(glue, head, open), `wasm.${letIn}()`, `second.${letIn}()`);
}

function replaced(text, what, by) {
  const other = text.replace(what, by);
  if (other === text) throw changed(what);
  return other;
}

const changed = (what) => new Error(`the glue has no \`${what}\` any more: see scripts/build/glue-text.mjs`);
