// The store in a directory keeps a store's promises, whatever ends its process and whoever else writes.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { compile, stores } from "./compiled.mjs";
import { lasting, promises, put, rejects, same, text, write } from "./promises.mjs";

const run = promisify(execFile);
const { fileStore } = await stores("file");

for (const [name, check] of Object.entries({ ...promises, ...lasting })) {
  test(`a store in a directory ${name}`, async (t) => {
    const directory = folder(t);
    await check(async () => opened(t, directory));
  });
}

for (const [runtime, flags] of [
  // Leave to touch the store's directory and nothing else.
  ["deno", (...paths) => ["run", `--allow-read=${paths}`, `--allow-write=${paths.at(-1)}`]],
  ["bun", () => []],
]) {
  test(`a store in a directory keeps its promises in ${runtime}`, async (t) => {
    const directory = folder(t);
    const [module] = await compile("file");
    const program = fileURLToPath(new URL(`../node_modules/.bin/${runtime}`, import.meta.url));
    const script = fileURLToPath(new URL("file-promises.mjs", import.meta.url));
    const { stdout } = await run(program, [
      ...flags(fileURLToPath(new URL(".", module)), directory),
      ...[script, module, directory],
    ]);
    for (const [name, failure] of Object.entries(JSON.parse(stdout))) {
      await t.test(name, () => assert.equal(failure, null));
    }
  });
}

test("a last commit that was not written to its end is as if it never was, wherever it ends", async (t) => {
  const directory = folder(t);
  const store = opened(t, directory);
  const epoch = await store.claim("f");
  await write(store, epoch, [put("a", 1, 2, 3)]);
  const before = statSync(newest(directory)).size;
  await write(store, epoch, [put("b", 4, 5, 6), { type: "delete", key: "a" }]);
  await store.close();
  const whole = readFileSync(newest(directory));
  for (let length = whole.length; length >= before; length--) {
    const other = folder(t);
    mkdirSync(other);
    writeFileSync(join(other, "1.log"), whole.subarray(0, length));
    // And where the file had its length, and the disk not its bytes.
    if (length % 2) truncateSync(join(other, "1.log"), whole.length);
    const again = opened(t, other);
    same(await text(again), length === whole.length ? { b: [4, 5, 6] } : { a: [1, 2, 3] });
    await write(again, epoch, [put("c", 7)]);
    same((await text(again)).c, [7]);
    await again.close();
  }
});

test("a commit that is damaged on the disk is left out and said, those after it hold, and the file is kept", async (t) => {
  const directory = folder(t);
  const store = opened(t, directory);
  const epoch = await store.claim("f");
  const ends = [];
  for (let n = 0; n < 5; n++) {
    await write(store, epoch, [put(`k${n}`, n, n, n)]);
    ends.push(statSync(newest(directory)).size);
  }
  await store.close();
  const whole = readFileSync(newest(directory));
  // One byte of the third commit after the other: where it begins, its length, its checksum, its words, its bytes.
  for (let at = ends[1]; at < ends[2]; at++) {
    const other = folder(t);
    mkdirSync(other);
    const damaged = Buffer.from(whole);
    damaged[at] ^= 0x55;
    writeFileSync(join(other, "7.log"), damaged);
    const said = [];
    const again = fileStore(other, (message) => said.push(message));
    same(Object.keys(await text(again)), ["k0", "k1", "k3", "k4"]);
    await write(again, epoch, [put("k5", 5)]);
    same(said.length, 1);
    await again.close();
    assert.deepEqual(readdirSync(other).sort(), ["7.log.damaged", "8.log"]);
    assert.deepEqual(readFileSync(join(other, "7.log.damaged")), damaged);
    same(Object.keys(await text(opened(t, other))), ["k0", "k1", "k3", "k4", "k5"]);
  }
});

test("a full disk refuses as quota and leaves nothing behind, and with room again all goes on", async (t) => {
  const directory = folder(t);
  const store = opened(t, directory);
  const epoch = await store.claim("f");
  await write(store, epoch, [put("a", 1)]);
  for (const part of [0, 10, 60]) {
    await withFileHandle(
      "write",
      async function (real, bytes, offset, length, position) {
        await real.call(this, bytes, offset, Math.min(part, length), position);
        throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
      },
      async () => {
        await rejects(write(store, epoch, [put("b", 2), put("a", 2)]), "quota");
        // Nor can a next file be made.
        await rejects(write(store, epoch, [put("b", 2), put("a", 2)]), "quota");
      },
    );
    same(await text(store), { a: [1] });
    same(await text(opened(t, directory)), { a: [1] });
    await write(store, epoch, [put("a", 1)]);
  }
  assert.deepEqual(readdirSync(directory).length, 1);
});

test("a strict commit is synced once before it resolves, a relaxed one and a claim are not", async (t) => {
  const store = opened(t, folder(t));
  await store.claim("f");
  let syncs = 0;
  await withFileHandle(
    "datasync",
    async function (real) {
      await real.call(this);
      syncs += 1;
    },
    async () => {
      const epoch = await store.claim("f");
      await write(store, epoch, [put("a", 1)], "f", "relaxed");
      same(syncs, 0);
      await write(store, epoch, [put("a", 1), put("b", 1)]);
      same(syncs, 1);
    },
  );
});

test("a directory stays small, however much is written, and what is not the store's is left alone", async (t) => {
  const directory = folder(t);
  mkdirSync(directory);
  const others = ["notes.txt", "7.txt", "log", "0x1.log"];
  others.forEach((name) => writeFileSync(join(directory, name), "mine"));
  const store = opened(t, directory);
  const epoch = await store.claim("f");
  const value = new Uint8Array(100_000).fill(7);
  for (let n = 0; n < 100; n++) {
    await write(store, epoch, [{ type: "put", key: `k${n % 3}`, value }], "f", "relaxed");
  }
  const files = readdirSync(directory).filter((name) => !others.includes(name));
  same(files.length, 1);
  assert.ok(statSync(join(directory, files[0])).size < 3_000_000);
  same(Object.keys(await text(store)), ["k0", "k1", "k2"]);
  others.forEach((name) => assert.equal(readFileSync(join(directory, name), "utf8"), "mine"));
});

test("what is forgotten is in no file any more", async (t) => {
  const directory = folder(t);
  const store = opened(t, directory);
  const epoch = await store.claim("f");
  await write(store, epoch, [{ type: "put", key: "a", value: new TextEncoder().encode("a private text") }]);
  const isThere = () =>
    readdirSync(directory).some((name) => readFileSync(join(directory, name)).includes("private"));
  assert.ok(isThere());
  copyFileSync(newest(directory), join(directory, "0.log.damaged"));
  await store.forget();
  assert.ok(!isThere());
});

test("a file of form 1 is read, and one of a newer form is refused and left as it is", async (t) => {
  const fixture = readFileSync(new URL("form-1.log", import.meta.url));
  const directory = folder(t);
  mkdirSync(directory);
  writeFileSync(join(directory, "3.log"), fixture);
  const store = opened(t, directory);
  same(await text(store), { "a/1": [1, 2, 3], "a/2": [] });
  await write(store, 42, [put("b", 1)], "session/s");
  same(await store.claim("session/s"), 43);
  await store.close();

  const { frame } = await stores("frames");
  const newer = frame({ form: 2, counted: [], fences: [], what: "nobody knows", ops: [] });
  writeFileSync(join(directory, "9.log"), newer);
  const again = opened(t, directory);
  await rejects(again.load(""), "too_new");
  await rejects(again.claim("session/s"), "too_new");
  assert.deepEqual(readFileSync(join(directory, "9.log")), Buffer.from(newer));
});

test("a directory that can't be used says so", async (t) => {
  const directory = folder(t);
  writeFileSync(directory, "a file");
  const store = fileStore(directory);
  await rejects(store.load(""), "unavailable");
  await rejects(store.claim("f"), "unavailable");
});

test("processes that all claim, write and are killed lose nothing that was committed, and keep nothing that was not", async (t) => {
  const directory = folder(t);
  const module = (await compile("file"))[0];
  const script = fileURLToPath(new URL("file-writer.mjs", import.meta.url));
  const said = { written: new Set(), fenced: new Set(), begun: new Set() };
  let kills = process.env["TINKEX_FULL"] ? 300 : 30;
  const aWriter = async () => {
    while (kills > 0) {
      const child = spawn(process.execPath, [script, module, directory], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      let left = 1 + Math.floor(Math.random() * 150);
      for await (const line of createInterface({ input: child.stdout })) {
        const [what, key] = line.split(" ");
        said[what].add(key);
        if (--left === 0) child.kill("SIGKILL");
      }
      kills -= 1;
    }
  };
  await Promise.all([aWriter(), aWriter(), aWriter()]);
  const kept = new Set((await opened(t, directory).load("k/")).map(([key]) => key));
  t.diagnostic(`${said.written.size} written, ${said.fenced.size} fenced, ${said.begun.size} begun`);
  assert.ok(said.written.size > 100 && said.fenced.size > 0, "they were in each other's way");
  assert.deepEqual(
    [...said.written].filter((key) => !kept.has(key)),
    [],
    "lost",
  );
  assert.deepEqual(
    [...said.fenced].filter((key) => kept.has(key)),
    [],
    "refused, and there",
  );
  assert.deepEqual(
    [...kept].filter((key) => !said.begun.has(key)),
    [],
    "from nowhere",
  );
});

function opened(t, directory) {
  const store = fileStore(directory, assert.fail);
  t.after(() => store.close());
  return store;
}

/** A directory that isn't there yet. */
function folder(t) {
  const made = mkdtempSync(join(tmpdir(), "tinkex-files-"));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return join(made, "a store");
}

function newest(directory) {
  const numbers = readdirSync(directory).map((name) => parseInt(name, 10));
  return join(directory, `${Math.max(...numbers)}.log`);
}

/** Runs `work` while a method of all files is another one, which is given the real one first. */
async function withFileHandle(method, replacement, work) {
  const handle = await open(fileURLToPath(import.meta.url));
  const prototype = Object.getPrototypeOf(handle);
  await handle.close();
  const real = prototype[method];
  prototype[method] = function (...args) {
    return replacement.call(this, real, ...args);
  };
  try {
    return await work();
  } finally {
    prototype[method] = real;
  }
}
