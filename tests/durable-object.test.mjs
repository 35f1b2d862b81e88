// The store of small values in a Durable Object, in the runtime that has them.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { root } from "../scripts/paths.mjs";

for (const [kind, useSQLite, most] of [
  ["a Durable Object", false, 131_072],
  ["a Durable Object with SQLite", true, 2_097_152],
]) {
  test(`a store in ${kind}`, async (t) => {
    const disk = mkdtempSync(join(tmpdir(), "tinkex-objects-"));
    t.after(() => rmSync(disk, { recursive: true, force: true }));
    const start = async () => {
      const worker = await workerOn(disk, useSQLite, most);
      const get = async (path) => {
        const response = await worker.dispatchFetch(`http://worker/${encodeURIComponent(path)}`);
        const body = await response.text();
        assert.equal(response.status, 200, body);
        return JSON.parse(body);
      };
      return { get, stop: () => worker.dispose() };
    };

    const first = await start();
    const names = await first.get("");
    assert.ok(names.length > 10);
    for (const name of names) {
      await t.test(name, async () => assert.deepEqual(await first.get(name), { [name]: null }));
    }
    const epoch = await first.get("write");
    await first.stop();

    const second = await start();
    const { next, ...record } = await second.get("read");
    await second.stop();
    assert.deepEqual(record, { key: "a", length: 300_000, last: 7 }, "it is there after a restart");
    assert.ok(next > epoch);
  });
}

async function workerOn(disk, useSQLite, MOST) {
  const { outputFiles } = await build({
    entryPoints: [join(root, "tests/store/durable-object.mjs")],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
  });
  return new Miniflare({
    compatibilityDate: "2026-04-01",
    modules: [{ type: "ESModule", path: "worker.js", contents: outputFiles[0].text }],
    bindings: { MOST },
    durableObjects: { STORE: { className: "Store", useSQLite } },
    durableObjectsPersist: disk,
  });
}
