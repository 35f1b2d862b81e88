// Parts the data of the wasm between its two files: what only the second one's code points to waits with it, texts and the places
// of its panics above all.
//
// The linker leaves each constant in a segment of its own. To point into one, code has an address in it as a number, or adds that
// to another one where it loads or stores; data have it in a word. No address lies outside of its constant (relocations.mjs). A number that only looks like an address keeps a constant in
// the first file, where all would be otherwise.
import binaryen from "binaryen";
import { inside } from "./expressions.mjs";
import { functionsOf } from "./split.mjs";

const { Const, Load, Store, getExpressionId: idOf } = binaryen;

/** For two modules that both have all data still. */
export function partData(first, second, memory) {
  const segments = segmentsOf(first);
  const here = pointedTo(first, segments);
  const there = pointedTo(second, segments).filter((segment) => !here.includes(segment));
  setData(first, memory, here, Infinity);
  // What lies between two of its pieces may be the first file's.
  setData(second, memory, there, 0);
}

/** In the order of their addresses. */
function segmentsOf(module) {
  const segments = Array.from({ length: module.getNumDataSegments() }, (_, i) => {
    const { offset, data } = module.getDataSegmentInfo(module.getDataSegmentByIndex(i));
    return { start: offset, data: new Uint8Array(data) };
  });
  return segments.sort((a, b) => a.start - b.start);
}

/** The segments that the code of a module points to, and those that these point to. */
function pointedTo(module, segments) {
  const found = new Set();
  const see = (address) => {
    const segment = segments.findLast(({ start }) => start <= address);
    if (segment && address < segment.start + segment.data.length) found.add(segment);
  };
  for (const { module: from, body } of functionsOf(binaryen, module))
    if (!from) for (const part of inside(body)) see(addressIn(part));
  // What is added meanwhile is visited as well.
  for (const { start, data } of found) {
    const words = new DataView(data.buffer);
    for (let at = -start & 3; at + 4 <= data.length; at += 4) see(words.getUint32(at, true));
  }
  return segments.filter((segment) => found.has(segment));
}

/** The number in an expression that may be an address. */
function addressIn(expression) {
  const id = idOf(expression);
  if (id === binaryen.LoadId) return Load.getOffset(expression);
  if (id === binaryen.StoreId) return Store.getOffset(expression);
  const isNumber = id === binaryen.ConstId && binaryen.getExpressionType(expression) === binaryen.i32;
  return isNumber ? Const.getValueI32(expression) : -1;
}

/** Gives a module these data, in as few segments as there are gaps of more than `gap` bytes. */
function setData(module, memory, segments, gap) {
  const pieces = [];
  for (const { start, data } of segments) {
    const last = pieces.at(-1);
    if (last && start - last.start - last.bytes.length <= gap) {
      while (last.start + last.bytes.length < start) last.bytes.push(0);
      last.bytes.push(...data);
    } else pieces.push({ start, bytes: [...data] });
  }
  const { initial, max } = module.getMemoryInfo(memory);
  const made = pieces.map(({ start, bytes }) => ({
    offset: module.i32.const(start),
    data: Uint8Array.from(bytes),
    passive: false,
  }));
  module.setMemory(initial, max ?? -1, null, made, false, false, memory);
}
