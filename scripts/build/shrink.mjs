// Makes the compiled wasm small, as a page downloads it: less code, in an order that compresses well, under short names.
import { readFileSync, writeFileSync } from "node:fs";
import { dropUnusedClosures } from "./closures.mjs";
import { withoutRelocations } from "./relocations.mjs";
import { exportsOf, functionsOf, placesApart, split } from "./split.mjs";

/**
 * Reads the wasm in `from`, which must have its names still, and writes two small files to `first` and `second`. Gives the
 * names of imports and exports that are others now.
 */
export async function shrink(from, { first, second }) {
  const { default: binaryen } = await import("binaryen");
  const { leaveMemory } = await import("./cleanups.mjs");
  const { callImportsDirectly } = await import("./imports.mjs");
  const module = binaryen.readBinary(withoutRelocations(readFileSync(from)));
  const apart = placesApart(binaryen, module);
  dropUnusedClosures(binaryen, module);
  callImportsDirectly(module);
  trapWhereFatal(binaryen, module);
  binaryen.setOptimizeLevel(2);
  binaryen.setShrinkLevel(1);
  // Below 1024 is the end of the stack, whose overflow traps there: no field of an object is.
  binaryen.setLowMemoryUnused(true);
  // These make less code and, compressed, more bytes: values kept for their second use, large functions put into their one
  // caller, and data in pieces without the zeros between them.
  binaryen.addPassToSkip("local-cse");
  binaryen.setOneCallerInlineMaxSize(20);
  binaryen.addPassToSkip("memory-packing");
  // What can't throw needs no cleaning up behind it, and shows better the second time; as do cleanups that only tell each other.
  for (let round = 0; round < 2; round += 1) {
    leaveMemory(module);
    module.runPasses(["generate-global-effects"]);
    module.optimize();
  }
  // Alignments are hints, which engines don't take: where all are one, they compress to nothing.
  module.runPasses(["dealign"]);
  const names = shorten(binaryen, module);
  const files = await split(binaryen, module, apart, (file) => group(binaryen, file));
  for (const [file, to] of [
    [files.first, first],
    [files.second, second],
  ]) {
    file.runPasses(["strip-debug", "strip-producers", "strip-target-features"]);
    writeFileSync(to, file.emitBinary());
    file.dispose();
  }
  module.dispose();
  return names;
}

/**
 * What ends the instance in place of a panic, as memory that has run out does: a collection that is to be larger than memory, a
 * future that is polled after its end, a cell that is borrowed twice. No code here does so; where it happened nothing could be
 * trusted any more. As panics they would ask everywhere for words, and for a place to clean up.
 */
const fatal = [
  /raw_vec.*capacity_overflow/,
  /panic_const_async_fn_resumed$/,
  /panic_const_async_fn_resumed_panic$/,
  /cell::panic_already_borrowed$/,
  /cell::panic_already_mutably_borrowed$/,
];

function trapWhereFatal(binaryen, module) {
  const functions = functionsOf(binaryen, module);
  for (const known of fatal) {
    const found = functions.find(({ name }) => known.test(name));
    if (!found) throw new Error(`no function is called ${known} any more: see scripts/build/shrink.mjs`);
    binaryen.Function.setBody(module.getFunction(found.name), module.unreachable());
  }
}

/**
 * Puts functions of one kind together: of as many parameters, by their size. What repeats is found close by then, which makes
 * the compressed file 2 % smaller.
 */
function group(binaryen, module) {
  const sizes = sizesOfFunctions(module.emitBinary());
  const own = functionsOf(binaryen, module)
    .filter(({ module: from }) => !from)
    .map((info, i) => ({ ...info, parameters: binaryen.expandType(info.params).length, size: sizes[i] }));
  own.sort((a, b) => a.parameters - b.parameters || a.size - b.size);
  for (const { name } of own) module.removeFunction(name);
  for (const { name, params, results, vars, body } of own) {
    module.addFunction(name, params, results, vars, body);
  }
}

/** In bytes, in the order of the functions in the file. */
function sizesOfFunctions(bytes) {
  let at = 8;
  const number = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++];
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  const CODE = 10;
  for (;;) {
    const section = bytes[at++];
    const length = number();
    if (section === CODE) break;
    at += length;
  }
  return Array.from({ length: number() }, () => {
    const size = number();
    at += size;
    return size;
  });
}

/** The names that wasm-bindgen made stand in the glue as well, most of them with a checksum: letters do as well. */
const generated = /^(__|wasm_bindgen_)/;

/** Gives imported functions and exports with such names short ones. */
function shorten(binaryen, module) {
  const names = new Map();
  const shortOf = (name) => {
    if (!names.has(name)) names.set(name, letters(names.size));
    return names.get(name);
  };
  for (const { name, module: from, base, params, results } of functionsOf(binaryen, module)) {
    if (!from || !generated.test(base)) continue;
    module.removeFunction(name);
    module.addFunctionImport(name, from, shortOf(base), params, results);
  }
  const adding = new Map([
    [binaryen.ExternalFunction, "addFunctionExport"],
    [binaryen.ExternalTable, "addTableExport"],
    [binaryen.ExternalMemory, "addMemoryExport"],
    [binaryen.ExternalGlobal, "addGlobalExport"],
  ]);
  for (const { kind, name, value } of exportsOf(binaryen, module)) {
    if (!generated.test(name)) continue;
    module.removeExport(name);
    module[adding.get(kind)](value, shortOf(name));
  }
  return names;
}

/** a to z, then aa, ab and so on. */
const letters = (n) => (n < 26 ? "" : letters(Math.floor(n / 26) - 1)) + String.fromCharCode(97 + (n % 26));
