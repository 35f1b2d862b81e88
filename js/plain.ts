// Plain values as bytes, in which they cross to the WebAssembly and back: `src/platform/plain.rs` has the form, and is the
// other side. Fields that are undefined or null are left out.

const HEAD = 5; // bytes: a letter for the kind, and the length of the content

/** Throws a `TypeError` where there is something else than records, arrays, bytes, strings, numbers and booleans. */
export function encode(value: unknown): Uint8Array {
  let bytes = new Uint8Array(256);
  let length = 0;
  const room = (size: number) => {
    const at = length;
    length += size;
    if (length > bytes.length) {
      const larger = new Uint8Array(2 * length);
      larger.set(bytes.subarray(0, at));
      bytes = larger;
    }
    return at;
  };
  const put = (kind: string, content: Uint8Array) => {
    const at = room(HEAD + content.length);
    head(at, kind);
    bytes.set(content, at + HEAD);
  };
  const head = (at: number, kind: string) => {
    bytes[at] = kind.charCodeAt(0);
    new DataView(bytes.buffer).setUint32(at + 1, length - at - HEAD, true);
  };
  const write = (value: unknown): void => {
    if (typeof value === "string") return put("t", text.encode(value));
    if (typeof value === "boolean") return put("f", Uint8Array.of(value ? 1 : 0));
    if (value instanceof Uint8Array) return put("b", value);
    if (typeof value === "number") {
      const at = room(HEAD + 8);
      head(at, "n");
      return new DataView(bytes.buffer).setFloat64(at + HEAD, value, true);
    }
    if (typeof value !== "object" || !value) throw new TypeError(`${typeof value} can't cross`);
    const at = room(HEAD);
    if (Array.isArray(value)) {
      value.forEach(write);
      return head(at, "l");
    }
    for (const [name, field] of Object.entries(value)) {
      if (field === undefined || field === null) continue;
      write(name);
      write(field);
    }
    head(at, "o");
  };
  write(value);
  return bytes.subarray(0, length);
}

/** What is decoded is a copy: the bytes may be a view of an instance's memory. */
export function decode(bytes: Uint8Array): unknown {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const read = (): unknown => {
    const start = at + HEAD;
    const end = start + view.getUint32(at + 1, true);
    const content = bytes.subarray(start, end);
    const kind = String.fromCharCode(bytes[at] ?? 0);
    if (kind === "o" || kind === "l") {
      at = start;
      const values: unknown[] = [];
      while (at < end) values.push(read());
      if (kind === "l") return values;
      return Object.fromEntries(values.flatMap((name, i) => (i % 2 ? [] : [[name, values[i + 1]]])));
    }
    at = end;
    if (kind === "t") return utf8.decode(content);
    if (kind === "b") return content.slice();
    return kind === "n" ? view.getFloat64(start, true) : content[0] === 1;
  };
  return read();
}

const text = new TextEncoder();
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
