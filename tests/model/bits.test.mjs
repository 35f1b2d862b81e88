// The engine's bits in wasm are those of the native tests (crates/model/tests/bits.rs), with vectors and without.
import assert from "node:assert/strict";
import { test } from "node:test";
import { wasmProbe } from "../../crates/model/tests/wasm-probe.mjs";

const hex = (hash) => BigInt.asUintN(64, hash).toString(16).padStart(16, "0");

for (const variant of ["plain", "simd128"]) {
  test(`training and sampling in wasm (${variant}) give the same bits as natively`, async () => {
    const probe = await wasmProbe(variant);
    assert.equal(hex(probe.hash_of_tiny()), hex(probe.expected_of_tiny()), "on the tiny base");
    assert.equal(hex(probe.hash_of_shipped()), hex(probe.expected_of_shipped()), "on the shipped base");
  });
}
