// Lets go of closures that nobody can call. wasm-bindgen has described to its command, by address, a caller for each kind of
// closure that js-sys knows; the descriptions are gone by now, and the addresses still stand in the table of functions, where
// wasm-opt must take them for needed. JavaScript calls those that are in use through exports of their own.
const callers = /convert.*closures.*invoke/;

/** Takes them out of the table of functions. */
export function dropUnusedClosures(binaryen, module) {
  for (let i = module.getNumElementSegments() - 1; i >= 0; i--) {
    const { name, table, offset, data } = binaryen.getElementSegmentInfo(module.getElementSegmentByIndex(i));
    const other = data.find((called) => !callers.test(called));
    if (other === undefined || !data.some((called) => callers.test(called)))
      throw new Error("the table has no names, or no closures: see scripts/build/closures.mjs");
    const start = binaryen.getExpressionInfo(offset).value;
    module.removeElementSegment(name);
    // Something else in their places, since every other function keeps its number.
    const kept = data.map((called) => (callers.test(called) ? other : called));
    module.addActiveElementSegment(table, name, kept, module.i32.const(start));
  }
}
