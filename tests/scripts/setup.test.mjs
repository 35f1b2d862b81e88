// The set-up's promises: it takes what fits, never leaves half a tool, and two of them don't get in each other's way.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { test } from "node:test";
import { cachedAs, downloadTool, installTool, toolFolder } from "../../scripts/setup/wasm-tools.mjs";
import { withLock } from "../../scripts/setup/lock.mjs";

const tool = { command: "wasm-tool", crate: "wasm-tool-cli", version: "1.2.3" };

test("a tool on PATH is taken where its version fits, and passed over where it doesn't", (t) => {
  const cache = temporary(t);
  const path = temporary(t);
  t.after(withPath(path));
  writeTool(path, "1.2.2");
  assert.equal(toolFolder(tool, cache), undefined);
  writeTool(path, "1.2.3");
  assert.equal(toolFolder(tool, cache), path);
});

test("a tool that can't be downloaded is compiled into the cache, where a fresh checkout finds it", async (t) => {
  const cache = temporary(t);
  await installTool(tool, {
    cache,
    download: async () => false,
    compile: async (_, draft) => compiled(draft),
  });
  assert.equal(toolFolder(tool, cache), join(cachedAs(tool, cache), "bin"));
});

test("an install that fails leaves nothing that looks like a tool, nor any litter", async (t) => {
  const cache = temporary(t);
  const compile = async (_, draft) => {
    compiled(draft);
    throw new Error("the disk is full");
  };
  await assert.rejects(installTool(tool, { cache, download: async () => false, compile }), /disk is full/);
  assert.equal(toolFolder(tool, cache), undefined);
  assert.deepEqual(readdirSync(cache), []);
});

test("two set-ups at once make a tool once, and both find it whole", async (t) => {
  const cache = temporary(t);
  let made = 0;
  const compile = async (_, draft) => {
    made += 1;
    await new Promise((resolve) => setTimeout(resolve, 50));
    compiled(draft);
  };
  const install = () => installTool(tool, { cache, download: async () => false, compile });
  await Promise.all([install(), install()]);
  assert.equal(made, 1);
  assert.ok(existsSync(join(cachedAs(tool, cache), "bin", tool.command)));
});

test("a set-up that does not see the other's lock keeps the tool that was there first", async (t) => {
  const cache = temporary(t);
  const compile = async (_, draft) => {
    compiled(draft);
    const first = join(cachedAs(tool, cache), "bin");
    mkdirSync(first, { recursive: true });
    writeFileSync(join(first, "first"), "");
  };
  await installTool(tool, { cache, download: async () => false, compile });
  assert.ok(existsSync(join(cachedAs(tool, cache), "bin", "first")));
});

test("a release archive is taken when it has the right version inside, and refused otherwise", async (t) => {
  const files = temporary(t);
  for (const [name, version] of [
    ["right", "1.2.3"],
    ["wrong", "1.2.4"],
  ]) {
    writeTool(join(files, name), version);
    assert.equal(spawnSync("tar", ["czf", `${name}.tar.gz`, name], { cwd: files }).status, 0);
  }
  const server = createServer((request, response) => {
    const file = join(files, request.url);
    if (existsSync(file)) response.end(readFileSync(file));
    else response.writeHead(404).end();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const from = (name) => {
    const draft = temporary(t);
    mkdirSync(join(draft, "bin"));
    const archive = (_, host) => `http://127.0.0.1:${server.address().port}/${name}.${host}`;
    return downloadTool(tool, draft, { host: "tar.gz", archive });
  };
  assert.equal(await from("right"), true);
  assert.equal(await from("wrong"), false);
  assert.equal(await from("absent"), false);
});

test("a lock whose holder is gone is taken over", async (t) => {
  const file = join(temporary(t), "lock");
  const { pid } = spawnSync(process.execPath, ["-e", ""]);
  writeFileSync(file, String(pid));
  assert.equal(await withLock(file, async () => "in"), "in");
  assert.ok(!existsSync(file));
});

function temporary(t) {
  const folder = mkdtempSync(join(tmpdir(), "tinkex-setup-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const compiled = (draft) => writeTool(join(draft, "bin"), tool.version);

function writeTool(folder, version) {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, tool.command);
  writeFileSync(file, `#!/bin/sh\necho ${tool.command} ${version}\n`);
  chmodSync(file, 0o755);
}

/** Puts a folder first on PATH and returns what undoes it. */
function withPath(folder) {
  const before = process.env.PATH;
  process.env.PATH = [folder, before].join(delimiter);
  return () => (process.env.PATH = before);
}
