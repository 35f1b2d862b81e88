// The package as it is published: packed, installed elsewhere, and used as its users do.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { build as viteBuild } from "vite";
import { wasmFiles } from "../scripts/build/wasm.mjs";
import { root } from "../scripts/paths.mjs";
import { complaints, launchChromium, launchFirefox } from "./support/browsers.mjs";
import { startSandbox } from "./support/sandbox.mjs";
import { serveFolder } from "./support/static.mjs";

const run = promisify(execFile);

describe("the packed package", () => {
  let app, tarball, installed;
  /** What every runtime has to get: that of Node, since all must be the same. */
  let expected;

  before(async () => {
    app = mkdtempSync(join(tmpdir(), "tinkex-app-"));
    const pack = ["pack", "--ignore-scripts", "--json", "--pack-destination", app];
    const [{ filename }] = JSON.parse((await run("npm", pack, { cwd: root })).stdout);
    tarball = join(app, filename);
    cpSync(join(root, "tests/package/app"), app, { recursive: true });
    writeFileSync(
      join(app, "package.json"),
      JSON.stringify({ name: "an-app", private: true, type: "module" }),
    );
    await run("npm", ["install", "--no-audit", "--no-fund", tarball], { cwd: app });
    installed = join(app, "node_modules/tinkex");
  });
  after(() => rmSync(app, { recursive: true, force: true }));

  test("holds its two .wasm, and its entry points are in order", async () => {
    const files = readdirSync(installed, { recursive: true }).map(String);
    assert.deepEqual(
      files.filter((name) => name.endsWith(".wasm")),
      Object.values(wasmFiles).map((name) => `pkg/${name}`),
    );
    const { buffer } = new Uint8Array(readFileSync(tarball));
    const { messages } = await publint({ pack: { tarball: buffer } });
    const pkg = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
    assert.deepEqual(
      messages.filter(({ type }) => type !== "suggestion").map((message) => formatMessage(message, pkg)),
      [],
    );
  });

  test("has no top-level await and no eval, and is gone from a bundle that doesn't use it", async () => {
    // A script in the old sense can't await at its top, so esbuild refuses one that has to.
    const used = await bundle("export * from 'tinkex'", { format: "iife", globalName: "all" });
    for (const word of [/\beval\(/, /\bnew Function\(/]) assert.doesNotMatch(used, word);
    const unused = await bundle("import { init } from 'tinkex'", { format: "esm" });
    assert.equal(unused, "");
  });

  test("does nothing when it is imported", async () => {
    const program = `
      for (const name of ["fetch", "setTimeout", "setInterval", "queueMicrotask"]) {
        globalThis[name] = () => { throw new Error(name + " was called"); };
      }
      WebAssembly.compile = WebAssembly.instantiate = () => { throw new Error("WebAssembly was compiled"); };
      const before = Object.getOwnPropertyNames(globalThis).length;
      await import("tinkex");
      if (Object.getOwnPropertyNames(globalThis).length !== before) throw new Error("it left a global");`;
    await run(process.execPath, ["--input-type=module", "--eval", program], { cwd: app });
  });

  test("in Node, where there are no web workers, a client in a worker is refused with what to do", async () => {
    const refused = run(process.execPath, ["node.mjs", "http://127.0.0.1:1", "worker"], { cwd: app });
    await assert.rejects(refused, /InitError.*no Worker: call init\(\) without `worker`/s);
  });

  test("type-checks in a user's project, in the ways that bundlers and Node resolve it", async () => {
    for (const [module, moduleResolution] of [
      ["ESNext", "Bundler"],
      ["NodeNext", "NodeNext"],
    ]) {
      const lib = ["ES2022", "DOM", "ESNext.Disposable"];
      const compilerOptions = {
        strict: true,
        noEmit: true,
        target: "ES2022",
        lib,
        types: [],
        module,
        moduleResolution,
      };
      writeFileSync(join(app, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["types.ts"] }));
      const compiler = join(root, "node_modules/typescript/bin/tsc");
      await run(process.execPath, [compiler, "-p", app]).catch((error) =>
        assert.fail(`${moduleResolution}: ${error.stdout}`),
      );
    }
  });

  test("trains two steps, samples and has a run in Node", async (t) => {
    const { url } = await startSandbox(t);
    expected = JSON.parse((await run(process.execPath, ["node.mjs", url], { cwd: app })).stdout);
    assert.equal(expected.losses.length, 2);
    assert.equal(expected.ofRun.length, 2);
    assert.ok(expected.losses[1] < expected.losses[0], `the loss falls: ${expected.losses}`);
    assert.equal(expected.sampled.length, expected.logprobs.length);
    assert.ok(expected.logprobs.every((logprob) => logprob <= 0));
  });

  for (const [name, command] of [
    // Leave to read the package and to ask the network, and nothing else.
    ["Deno", ["deno", "run", "--allow-read=.", "--allow-net"]],
    ["Bun", ["bun"]],
  ]) {
    test(`trains two steps and samples in ${name}, on its own thread and in a worker, with the same numbers, and ends`, async (t) => {
      const { url } = await startSandbox(t);
      const [program, ...flags] = command;
      for (const where of ["here", "worker"]) {
        const runtime = join(root, "tests/node_modules/.bin", program);
        const { stdout } = await run(runtime, [...flags, "node.mjs", url, where], { cwd: app });
        assert.deepEqual(JSON.parse(stdout), expected, where);
      }
    });
  }

  test("trains two steps and samples in workerd, with the same numbers", async (t) => {
    const { url } = await startSandbox(t);
    const worker = await build({
      entryPoints: [join(app, "worker.mjs")],
      bundle: true,
      write: false,
      format: "esm",
      target: "es2022",
      external: ["node:*", "*.wasm"],
      // What wrangler does: a .wasm becomes a module that is deployed beside the worker.
      plugins: [
        { name: "wasm", setup: (esbuild) => esbuild.onResolve({ filter: /\.wasm$/ }, wasmBesideWorker) },
      ],
    });
    const miniflare = new Miniflare({
      compatibilityDate: "2026-04-01",
      modules: [
        { type: "ESModule", path: "worker.js", contents: worker.outputFiles[0].text },
        ...Object.values(wasmFiles).map((name) => ({
          type: "CompiledWasm",
          path: name,
          contents: readFileSync(join(installed, "pkg", name)),
        })),
      ],
    });
    t.after(() => miniflare.dispose());
    const response = await miniflare.dispatchFetch(`http://worker/?server=${encodeURIComponent(url)}`);
    const body = await response.text();
    assert.equal(response.status, 200, body);
    assert.deepEqual(JSON.parse(body), expected);
  });

  for (const [name, launch] of [
    ["Chromium", launchChromium],
    ["Firefox", launchFirefox],
  ]) {
    test(`trains two steps and samples in ${name} through a Vite build, on the page and in a worker, under a strict content policy`, async (t) => {
      const { url: server } = await startSandbox(t);
      await viteBuild({ root: app, logLevel: "error", configFile: false });
      const csp = `default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' ${server}; img-src data:`;
      const dist = join(app, "dist");
      const built = readdirSync(dist, { recursive: true }).map(String);
      assert.equal(
        built.filter((name) => name.endsWith(".wasm")).length,
        2,
        "the same .wasm for page and worker",
      );
      const site = await serveFolder(t, dist, { headers: { "content-security-policy": csp } });
      const page = await (await launch(t)).newPage();
      const heard = complaints(page);
      for (const where of ["", "&worker"]) {
        await page.goto(`${site}/?server=${encodeURIComponent(server)}${where}`);
        await page.waitForFunction(() => document.title !== "working", undefined, { timeout: 300_000 });
        assert.deepEqual(await page.evaluate(() => globalThis.result), expected);
        if (name === "Chromium") assert.equal(page.workers().length, where ? 1 : 0);
      }
      assert.deepEqual(heard, []);
    });
  }

  async function bundle(contents, options) {
    const { outputFiles } = await build({
      stdin: { contents, resolveDir: app },
      bundle: true,
      write: false,
      target: "es2022",
      external: ["node:*"],
      logLevel: "silent",
      ...options,
    });
    return outputFiles[0].text;
  }
});

const wasmBesideWorker = ({ path }) => ({ path: `./${basename(path)}`, external: true });
