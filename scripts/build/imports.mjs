// Lets the client call JavaScript directly. wasm-bindgen puts a function before each import: it marks what the import has thrown, so
// that the glue knows that from a trap, and traps where a call from within has ended the instance meanwhile. Here the instance's life
// does both (js/life.ts): it tells a trap by what it is, and neither calls an instance that had one nor does what that asks for. What
// an import throws goes through the client past all that catches panics; none throws that a runtime has.
import binaryen from "binaryen";
import { inside } from "./expressions.mjs";
import { exportsOf, functionsOf } from "./split.mjs";

const before = / catch wrapper$/;
/** What was there before `globalThis`, which every runtime has that knows exceptions of WebAssembly. */
const olderGlobals = /get_global_object::(GLOBAL|SELF|WINDOW)::/;
/** By what the glue would mark an instance as ended, and call it for the last time. */
const endings = ["__instance_terminated", "__abort_handler"];

/** Leaves of the functions before imports the calls alone. */
export function callImportsDirectly(module) {
  const wrappers = functionsOf(binaryen, module).filter(({ name }) => before.test(name));
  const exported = exportsOf(binaryen, module).map(({ name }) => name);
  if (wrappers.length === 0 || !endings.every((name) => exported.includes(name)))
    throw new Error("wasm-bindgen does not wrap imports any more as it did: see scripts/build/imports.mjs");
  for (const { name, params, results, body } of wrappers) {
    const call = inside(body).find((part) => binaryen.getExpressionId(part) === binaryen.CallId);
    const given = binaryen.expandType(params).map((type, i) => module.local.get(i, type));
    const directly = olderGlobals.test(name)
      ? module.i32.const(0)
      : module.call(binaryen.Call.getTarget(call), given, results);
    binaryen.Function.setBody(module.getFunction(name), directly);
  }
  endings.forEach((name) => module.removeExport(name));
}
