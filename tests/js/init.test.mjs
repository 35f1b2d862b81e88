// Getting the WebAssembly: from where, once, again after a failure, and with what to do in every error.
import assert from "node:assert/strict";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, test } from "node:test";
import { pathToFileURL } from "node:url";
import { firstFile, freshCopy, SECOND, secondFile, silent, WASM } from "./stub.mjs";

const answers = {
  "/right.wasm": ["application/wasm", WASM],
  "/tinkex_deferred_bg.wasm": ["application/wasm", SECOND],
  "/untyped.wasm": ["application/octet-stream", WASM],
  "/fallback.wasm": ["text/html", "<!doctype html><title>an app</title>"],
  "/other.wasm": ["application/octet-stream", "not WebAssembly"],
  "/broken.wasm": ["application/wasm", Buffer.from([...WASM, 1, 2, 3])],
};
const server = createServer(({ url }, response) => {
  const [type, body] = answers[url] ?? [];
  response.writeHead(type ? 200 : 404, type && { "content-type": type });
  response.end(body ?? "none");
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${server.address().port}`;
after(() => server.close());

async function copyWithInit() {
  const copy = freshCopy();
  return Object.assign(copy, await copy.load("index"));
}

async function failsToStart(copy, options, words) {
  await assert.rejects(copy.init(options), (error) => {
    assert.ok(error instanceof copy.InitError, String(error));
    assert.equal(error.code, "init_failed");
    assert.match(error.message, words);
    return true;
  });
}

test("importing does nothing, and init() starts one instance however often it is called", async () => {
  const copy = await copyWithInit();
  assert.equal(copy.instances.length, 0);
  const first = copy.init({ bytes: WASM });
  assert.equal(copy.init(), first);
  await first;
  await copy.init({ bytes: WASM });
  assert.equal(copy.instances.length, 1);
  assert.ok(copy.instance.module instanceof WebAssembly.Module);
});

test("by default it is the file beside the package, read from the disk where that is the user's own", async () => {
  const copy = await copyWithInit();
  await failsToStart(copy, undefined, /tinkex_bg\.wasm can't be read.*init\(\{ url \}\)/);
  writeFileSync(join(copy.folder, "tinkex_bg.wasm"), WASM);
  await copy.init();
  assert.equal(copy.instances.length, 1);
});

test("it takes a module, bytes, a view of bytes, a URL, and a file's URL", async () => {
  const padded = new Uint8Array([9, 9, ...WASM]).subarray(2);
  const file = join(freshCopy().folder, "x.wasm");
  writeFileSync(file, WASM);
  for (const options of [
    { module: await WebAssembly.compile(WASM) },
    { bytes: WASM.buffer },
    { bytes: padded },
    { url: `${origin}/right.wasm` },
    { url: new URL(`${origin}/right.wasm`) },
    { url: pathToFileURL(file) },
  ]) {
    const copy = await copyWithInit();
    await copy.init(options);
    assert.equal(copy.instances.length, 1);
  }
});

test("a server that doesn't know the type of the file is no obstacle", async () => {
  const copy = await copyWithInit();
  await copy.init({ url: `${origin}/untyped.wasm` });
  assert.equal(copy.instances.length, 1);
});

test("each failure says what to do, and init() may be called again", async () => {
  const copy = await copyWithInit();
  await failsToStart(copy, { url: `${origin}/fallback.wasm` }, /is HTML.*optimizeDeps.*exclude.*"tinkex"/);
  await failsToStart(copy, { url: `${origin}/missing.wasm` }, /answered with 404.*init\(\{ url \}\)/);
  await failsToStart(copy, { url: `${origin}/other.wasm` }, /is not WebAssembly/);
  await failsToStart(copy, { url: `${origin}/broken.wasm` }, /can't be compiled/);
  await failsToStart(copy, { url: "http://127.0.0.1:1/x.wasm" }, /can't be fetched/);
  await failsToStart(copy, { url: "file:///nowhere/x.wasm" }, /can't be read/);
  await failsToStart(copy, { bytes: new Uint8Array(3) }, /the given bytes is not|the given bytes/);
  await copy.init({ url: `${origin}/right.wasm` });
  assert.equal(copy.instances.length, 1);
});

test("a Content-Security-Policy that forbids WebAssembly is named", async () => {
  const copy = await copyWithInit();
  const { compile } = WebAssembly;
  WebAssembly.compile = () =>
    Promise.reject(new WebAssembly.CompileError("Refused to compile because 'unsafe-eval' is not allowed"));
  try {
    await failsToStart(copy, { bytes: WASM }, /'wasm-unsafe-eval'/);
  } finally {
    WebAssembly.compile = compile;
  }
});

test("a module that does not start is a failure of init(), and leaves nothing behind", async () => {
  const copy = await copyWithInit();
  copy.onInstance = (instance) => {
    instance.begin = () => {
      throw new TypeError("start is not what it was");
    };
  };
  await failsToStart(copy, { bytes: WASM }, /did not start \(start is not what it was\)/);
  const service = new copy.ServiceClient({ apiKey: "tml-a", baseURL: "http://localhost" });
  await assert.rejects(service.getServerCapabilities(), copy.NotInitializedError);
  copy.onInstance = () => {};
  await copy.init({ bytes: WASM });
  assert.equal(copy.instances.length, 2);
});

test("options that can't be are refused by name", async () => {
  const copy = await copyWithInit();
  for (const [options, field] of [
    [{ wasm: WASM }, "wasm"],
    [{ bytes: "text" }, "bytes"],
    [{ module: WASM }, "module"],
    [{ url: 7 }, "url"],
    [{ url: "x", bytes: WASM }, "bytes"],
    [{ deferred: SECOND }, "deferred"],
    [{ deferred: new URL(origin) }, "deferred"],
    [{ deferred: {} }, "deferred"],
    [{ deferred: { wasm: SECOND } }, "deferred.wasm"],
    [{ deferred: { module: WASM } }, "deferred.module"],
    [{ deferred: { url: "x", bytes: SECOND } }, "deferred.bytes"],
    ["x.wasm", "options"],
  ]) {
    await assert.rejects(copy.init(options), (error) => {
      assert.ok(error instanceof copy.InvalidArgumentError, String(error));
      assert.equal(error.field, field);
      assert.match(error.message, /^\S/);
      return true;
    });
  }
});

test("a runtime that does not say where the package is asks for the module", async () => {
  const copy = await copyWithInit();
  const path = join(copy.folder, "init.js");
  copyFileSync(path, join(copy.folder, "nowhere.js"));
  writeFileSync(
    join(copy.folder, "nowhere.js"),
    readFileSync(path, "utf8").replaceAll("import.meta.url", "undefined"),
  );
  const { init } = await copy.load("nowhere");
  await failsToStart(Object.assign(copy, { init }), undefined, /init\(\{ module \}\)/);
});

const service = ({ ServiceClient }) =>
  new ServiceClient({ apiKey: "tml-a", baseURL: "http://localhost", logger: silent });

test("what training runs need is loaded by the first method that is of runs, once, and given to each instance", async () => {
  const copy = await copyWithInit();
  await copy.init({ bytes: WASM, deferred: { bytes: SECOND } });
  const used = service(copy);
  const capabilities = used.getServerCapabilities();
  copy.instance.settle({});
  await capabilities;
  assert.equal(copy.instance.extension, undefined);
  const listed = [used.runs(), used.runs()];
  while (copy.instance.calls.length < 3) await new Promise(setImmediate);
  assert.ok(copy.instance.extension.module instanceof WebAssembly.Module);
  for (const call of copy.instance.calls.slice(1)) copy.instance.settle({ runs: [] }, call);
  assert.deepEqual(await Promise.all(listed), [[], []]);
  const { extension } = copy.instance;
  copy.instance.trapOnCall();
  const lost = used.getServerCapabilities();
  await assert.rejects(lost, copy.InstanceLostError);
  assert.equal(copy.instances.length, 2);
  assert.deepEqual(copy.instance.extension, { module: extension.module, openedBefore: 0 });
});

test("the file of training runs is beside the first one where that was named", async () => {
  const copy = await copyWithInit();
  await copy.init({ url: new URL(`${origin}/right.wasm`) });
  const listed = service(copy).runs();
  while (copy.instance.calls.length < 1) await new Promise(setImmediate);
  copy.instance.settle({ runs: [] });
  assert.deepEqual(await listed, []);
});

test("a file of training runs that can't be used is told by the method, which may be called again", async () => {
  const copy = await copyWithInit();
  await copy.init({ bytes: WASM });
  const used = service(copy);
  const refused = (words) =>
    assert.rejects(used.runs(), (error) => {
      assert.ok(error instanceof copy.InitError, String(error));
      assert.match(error.message, words);
      return true;
    });
  await refused(/tinkex_deferred_bg\.wasm can't be read.*init\(\{ deferred: \{ url \} \}\)/);
  const path = join(copy.folder, "tinkex_deferred_bg.wasm");
  for (const other of [secondFile("other"), firstFile("built")]) {
    writeFileSync(path, other);
    await refused(/not of the version of tinkex_bg\.wasm that is running.*reload/);
  }
  assert.equal(copy.instance.extension, undefined);
  writeFileSync(path, SECOND);
  const listed = used.runs();
  while (copy.instance.calls.length < 1) await new Promise(setImmediate);
  copy.instance.settle({ runs: [] });
  assert.deepEqual(await listed, []);
});

test("runs before init() say so", async () => {
  const copy = await copyWithInit();
  for (const method of ["runs", "openRun", "startRun"]) {
    await assert.rejects(service(copy)[method]({}), copy.NotInitializedError);
  }
});
