// A page that is hidden, or goes, has its instance send what waits.
import assert from "node:assert/strict";
import { test } from "node:test";
import { startedCopy } from "./stub.mjs";

/** A document that says what a browser's says. */
class StubDocument extends EventTarget {
  visibilityState = "visible";

  show(state) {
    this.visibilityState = state;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

test("an instance hears that its page is hidden or goes, and not that it is seen again", async (t) => {
  const document = new StubDocument();
  const page = new EventTarget();
  Object.assign(globalThis, { document, addEventListener: page.addEventListener.bind(page) });
  t.after(() => {
    delete globalThis.document;
    delete globalThis.addEventListener;
  });
  const { instance } = await startedCopy({ dangerouslyAllowBrowser: true });
  document.show("hidden");
  assert.equal(instance.hides, 1);
  document.show("visible");
  assert.equal(instance.hides, 1);
  page.dispatchEvent(new Event("pagehide"));
  assert.equal(instance.hides, 2);
});
