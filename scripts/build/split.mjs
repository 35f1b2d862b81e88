// Cuts the client's wasm in two: a first file, and a second one with what a page may never need, to be loaded when it does.
//
// Both are one program. The second file takes the memory, the tables, the stack and the functions of the first one as imports,
// and fills its own places in the table of functions; by these alone the first one reaches it. What the second file has is
// decided by the modules of the source: their functions in the table, the export that lets it in, and all code that is reached
// from nowhere else. Its data are what that code points to, see data.mjs.
import { createHash } from "node:crypto";

/**
 * The modules whose code waits: training runs, and whatever is called `deferred`. What reaches them by name, without a table, would
 * bring them into the first file.
 */
const apart = /\btinkex(\[\w+\])?::(run|(\w+::)?deferred)::/;

/** The export that lets the second file in. It is the only one there. */
export const letIn = "provide_deferred";

/** By what name the second file imports the first one. */
export const firstFile = "first";

/** The first file's export that is the table of functions. */
export const functionTable = "functions";

/**
 * The places in the table of functions that are the second file's. To be asked for before anything is optimized: of two equal
 * functions one is kept later, and its name says nothing of the other.
 */
export function placesApart(binaryen, module) {
  const places = inTable(binaryen, module).places.filter(([, name]) => apart.test(name));
  if (places.length === 0)
    throw new Error("no function of the table is of a module that waits: see split.mjs");
  return new Set(places.map(([place]) => place));
}

/** Gives both files as modules. `module` has short names already, since they are the same for both. */
export async function split(binaryen, module, places, arrange) {
  const { partData } = await import("./data.mjs");
  binaryen.setDebugInfo(true);
  const whole = module.emitBinary();
  binaryen.setDebugInfo(false);
  const first = binaryen.readBinary(whole);
  const second = binaryen.readBinary(whole);
  // Files of two builds don't fit together: what the second one asks for first is what no other build has.
  const build = createHash("sha256").update(whole).digest("hex").slice(0, 16);

  first.removeExport(letIn);
  fillTable(binaryen, first, (place) => !places.has(place));
  first.runPasses(["remove-unused-module-elements"]);
  const kept = new Set(functionsOf(binaryen, first).map(({ name }) => name));

  for (const { name } of exportsOf(binaryen, second)) if (name !== letIn) second.removeExport(name);
  fillTable(binaryen, second, (place) => places.has(place));
  const { memory, tables, stack } = sharedOf(binaryen, first);
  partData(first, second, memory);
  second.addMemoryImport(memory, firstFile, build);
  first.addMemoryExport(memory, build);
  for (const [table, name] of tables) second.addTableImport(table, firstFile, name);
  second.addGlobalImport(stack, firstFile, stack, binaryen.i32, true);
  first.addGlobalExport(stack, stack);
  second.addTagImport(exception, firstFile, exception, binaryen.i32, binaryen.none);
  first.addTagExport(exception, exception);
  const own = functionsOf(binaryen, second).filter(({ module }) => !module);
  const shared = own.filter(({ name }) => kept.has(name));
  for (const [i, { name, params, results }] of shared.entries()) {
    second.removeFunction(name);
    second.addFunctionImport(name, firstFile, `${i}`, params, results);
  }
  second.runPasses(["remove-unused-module-elements"]);
  arrange(first);
  arrange(second);
  const wanted = new Set(
    functionsOf(binaryen, second)
      .filter(({ module }) => module === firstFile)
      .map(({ name }) => name),
  );
  const used = functionsOf(binaryen, first).filter(({ name }) => wanted.has(name));
  const start = append(binaryen, first, second, used);
  for (const [i, { name, params, results }] of used.entries()) {
    second.removeFunction(name);
    second.addFunctionImport(name, firstFile, `${start + i}`, params, results);
  }
  return { first, second };
}

/** Binaryen's name for the one tag that the module has of its own, by which a panic unwinds. */
const exception = "tag$0";

/** The memory, and the tables with the names under which they are exported, and the pointer of the stack. */
function sharedOf(binaryen, module) {
  const exported = exportsOf(binaryen, module);
  const memory = exported.find(({ kind }) => kind === binaryen.ExternalMemory).value;
  const tables = exported
    .filter(({ kind }) => kind === binaryen.ExternalTable)
    .map(({ value, name }) => [value, name]);
  return { memory, tables, stack: "__stack_pointer" };
}

/** The one table of functions: its name, its segments, and which function is in which place. */
function inTable(binaryen, module) {
  const segments = Array.from({ length: module.getNumElementSegments() }, (_, i) =>
    binaryen.getElementSegmentInfo(module.getElementSegmentByIndex(i)),
  );
  const places = segments.flatMap(({ offset, data }) => {
    const start = binaryen.getExpressionInfo(offset).value;
    return data.map((name, i) => [start + i, name]);
  });
  return { table: segments[0].table, segments, places };
}

/** Leaves in the table only what is in these places, as few segments as they allow. */
function fillTable(binaryen, module, has) {
  const { table, segments, places } = inTable(binaryen, module);
  for (const { name } of segments) module.removeElementSegment(name);
  const rows = [];
  for (const [place, name] of places.filter(([place]) => has(place)).sort(([a], [b]) => a - b)) {
    const last = rows.at(-1);
    if (last && last.start + last.names.length === place) last.names.push(name);
    else rows.push({ start: place, names: [name] });
  }
  for (const { start, names } of rows) {
    module.addActiveElementSegment(table, `from ${start}`, names, module.i32.const(start));
  }
}

/** Puts functions behind all that the table of both files has, and gives their first place. An export of each is four times as large. */
function append(binaryen, first, second, functions) {
  const { table } = inTable(binaryen, first);
  const { initial: end } = binaryen.getTableInfo(first.getTable(table));
  for (const module of [first, second]) {
    binaryen.Table.setInitial(module.getTable(table), end + functions.length);
    binaryen.Table.setMax(module.getTable(table), end + functions.length);
  }
  const names = functions.map(({ name }) => name);
  first.addActiveElementSegment(table, "for the second file", names, first.i32.const(end));
  first.addTableExport(table, functionTable);
  return end;
}

/** Those of the module, in the order of the file, imported ones first. */
export function functionsOf(binaryen, module) {
  return Array.from({ length: module.getNumFunctions() }, (_, i) =>
    binaryen.getFunctionInfo(module.getFunctionByIndex(i)),
  );
}

export function exportsOf(binaryen, module) {
  return Array.from({ length: module.getNumExports() }, (_, i) =>
    binaryen.getExportInfo(module.getExportByIndex(i)),
  );
}
