// What is left of sessions that ended long ago goes with each session that is made, also on a page that never asks for the second file.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { init, ServiceClient } from "../pkg/index.js";
import { MemoryStore } from "../pkg/store/memory.js";
import { startSandbox } from "./support/sandbox.mjs";

before(() => init());

const DAYS = 24 * 3_600 * 1_000; // ms

test("a page that makes a session has an old one cleared, when the second file has come for that", async (t) => {
  const store = new MemoryStore();
  const session = async ({ url }) => {
    const service = new ServiceClient({ apiKey: "tml-a-test", baseURL: url, store, telemetry: false });
    t.after(() => service.close());
    await service.createSamplingClient({ baseModel: "tinkex/tiny" });
    return service.sessionId;
  };
  const real = Date.now;
  Date.now = () => real() - 31 * DAYS;
  try {
    await session(await startSandbox(t));
  } finally {
    Date.now = real;
  }
  // A server that knows nothing of the other's session.
  const young = await session(await startSandbox(t));
  const kept = async () => (await store.load("session/")).map(([key]) => key);
  const patience = performance.now() + 30_000;
  while ((await kept()).length > 1 && performance.now() < patience)
    await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(await kept(), [`session/${young}`]);
});
