// What the linker says of each address in the wasm: of which constant it is, and how far behind its beginning.
//
// Its sections (`linking` and `reloc.…`, as of the tool conventions of WebAssembly) come along with `--emit-relocs`, are read here
// and go: nobody else wants them.

const CUSTOM = 0;
const SYMBOL_TABLE = 8;
const symbol = { data: 1, section: 3 };
const flag = { undefined: 0x10, named: 0x40 };
/** Kinds of relocations that have an addend, and those of them that give the address of a constant. */
const withAddend = new Set([3, 4, 5, 8, 9, 11, 14, 15, 16, 17, 21, 22, 23, 25]);
const ofAddress = new Set([3, 4, 5, 11]);

/**
 * Gives a module's bytes without these sections. Throws where an address lies outside of its constant: by its number alone nobody
 * could tell then which constant is needed (see data.mjs).
 */
export function withoutRelocations(bytes) {
  const kept = [bytes.subarray(0, 8)];
  const relocations = [];
  let symbols;
  for (let at = 8; at < bytes.length;) {
    const section = new Reader(bytes, at);
    const id = section.byte();
    const end = section.number() + section.at;
    const name = id === CUSTOM ? section.text() : "";
    if (name === "linking") symbols = symbolsIn(section, end);
    else if (name.startsWith("reloc.")) relocations.push(section);
    else kept.push(bytes.subarray(at, end));
    at = end;
  }
  if (!symbols || relocations.length === 0) throw new Error("the linker left no relocations: see wasm.mjs");
  for (const section of relocations) check(section, symbols);
  return Buffer.concat(kept);
}

function check(section, symbols) {
  section.number();
  for (let left = section.number(); left > 0; left -= 1) {
    const kind = section.byte();
    section.number();
    const of = symbols[section.number()];
    const addend = withAddend.has(kind) ? section.signed() : 0;
    if (ofAddress.has(kind) && of && (addend < 0 || addend > of.size))
      throw new Error(`an address is ${addend} bytes from ${of.name}, which has ${of.size}: see data.mjs`);
  }
}

/** By their index, constants with name and size; nothing for all other symbols. */
function symbolsIn(section, end) {
  section.number();
  while (section.at < end) {
    const kind = section.byte();
    const behind = section.number() + section.at;
    if (kind === SYMBOL_TABLE) return Array.from({ length: section.number() }, () => symbolIn(section));
    section.at = behind;
  }
  return undefined;
}

function symbolIn(section) {
  const kind = section.byte();
  const flags = section.number();
  const known = !(flags & flag.undefined);
  if (kind === symbol.data) {
    const name = section.text();
    if (!known) return undefined;
    section.number();
    section.number();
    return { name, size: section.number() };
  }
  section.number();
  if (kind !== symbol.section && (known || flags & flag.named)) section.text();
  return undefined;
}

/** Reads numbers and texts, one behind the other. */
class Reader {
  constructor(bytes, at) {
    this.bytes = bytes;
    this.at = at;
  }

  byte() {
    return this.bytes[this.at++];
  }

  /** LEB128, without a sign. */
  number() {
    for (let [value, shift] = [0, 1]; ; shift *= 128) {
      const byte = this.byte();
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  }

  /** LEB128, with a sign. */
  signed() {
    for (let [value, shift] = [0, 1]; ;) {
      const byte = this.byte();
      value += (byte & 127) * shift;
      shift *= 128;
      if (byte < 128) return byte & 64 ? value - shift : value;
    }
  }

  text() {
    const length = this.number();
    return Buffer.from(this.bytes.subarray(this.at, (this.at += length))).toString();
  }
}
