// What every page pays for the package.
import assert from "node:assert/strict";
import { test } from "node:test";
import { bar, measure } from "../../scripts/size.mjs";

test("a page loads no more of the package than the bar allows", async (t) => {
  const { wasm, js, total } = await measure();
  t.diagnostic(`${total} B gzipped: wasm ${wasm.gzipped}, JavaScript ${js.gzipped}; the bar is ${bar} B`);
  assert.ok(total <= bar, `${total} B gzipped are more than ${bar} B`);
});
