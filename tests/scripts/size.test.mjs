// What every page pays for the package, and what one pays that has training runs.
import assert from "node:assert/strict";
import { test } from "node:test";
import { bars, measure } from "../../scripts/size.mjs";

test("a page loads no more of the package than the bars allow", async (t) => {
  for (const [name, { wasm, js, total }] of Object.entries(await measure())) {
    const bar = bars[name];
    t.diagnostic(
      `${name}: ${total} B gzipped: wasm ${wasm.gzipped}, JavaScript ${js.gzipped}; the bar is ${bar} B`,
    );
    assert.ok(total <= bar, `${name}: ${total} B gzipped are more than ${bar} B`);
  }
});
