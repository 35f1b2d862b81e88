// What crosses to the WebAssembly, as bytes. `src/platform/plain.rs` reads the same ones in a test of its own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, encode } from "./stub.mjs";

const VALUE = {
  text: "über 🐫, \uFEFF and ",
  empty: "",
  number: -1.5,
  large: Number.MAX_SAFE_INTEGER,
  not: NaN,
  yes: true,
  no: false,
  bytes: Uint8Array.of(0, 255),
  list: [1, "two", [Uint8Array.of(3)], {}],
  object: { inner: { deepest: [] } },
};

test("what is encoded comes out as it was; what is undefined or null is left out", () => {
  assert.deepEqual(decode(encode({ ...VALUE, none: undefined, nothing: null })), VALUE);
  for (const value of ["alone", 7, true, [], Uint8Array.of(1)])
    assert.deepEqual(decode(encode(value)), value);
});

test("bytes that come out are a copy, wherever they stood", () => {
  const memory = new Uint8Array(64);
  const bytes = encode({ bytes: Uint8Array.of(1, 2, 3) });
  memory.set(bytes, 7);
  const { bytes: copy } = decode(memory.subarray(7, 7 + bytes.length));
  memory.fill(0);
  assert.deepEqual(copy, Uint8Array.of(1, 2, 3));
  assert.equal(copy.buffer.byteLength, 3);
});

test("a value larger than any room that was made for it is whole", () => {
  const value = { bytes: new Uint8Array(100_000).fill(7), list: Array.from({ length: 10_000 }, (_, i) => i) };
  assert.deepEqual(decode(encode(value)), value);
});

test("what has no form as a plain value is refused, and not lost", () => {
  for (const value of [() => {}, 1n, Symbol("x"), { inner: [1n] }])
    assert.throws(() => encode(value), TypeError);
});

test("the bytes are those that Rust reads", () => {
  const bytes = encode({ text: "é", list: [1, true] });
  assert.equal(
    Buffer.from(bytes).toString("hex"),
    "6f31000000" + // object, 49 bytes
      "740400000074657874" + // "text"
      "7402000000c3a9" + // "é"
      "74040000006c697374" + // "list"
      "6c13000000" + // list, 19 bytes
      "6e08000000000000000000f03f" + // 1
      "660100000001", // true
  );
});
