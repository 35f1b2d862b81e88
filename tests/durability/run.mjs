// One training run that is struck again and again, and what must be true of it in the end: each step stands once in the
// server's own log, none is missing, no body was refused, and the log applied to a fresh engine gives the same weights.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as after } from "node:timers/promises";
import { promisify } from "node:util";
import { root, sandboxBinary } from "../../scripts/paths.mjs";
import { launchOnProfile } from "../support/browsers.mjs";
import { pageOf } from "../support/page.mjs";
import { startSandbox } from "../support/sandbox.mjs";

const run = promisify(execFile);

/** The same numbers between 0 and 1 for the same seed (mulberry32). */
export function numbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Where a request is when its page, its instance or its server is struck, and which state that is. */
export const points = {
  called: "unwritten",
  written: "written",
  sent: "sent",
  accepted: "sent",
  answered: "answered",
  settled: "answered",
};

/** What a strike is. */
export const strikes = {
  kill: "the browser is killed",
  reload: "the page is reloaded",
  trap: "the instance traps",
  server: "the server is killed",
};

/** What a page passes before it is struck, in steps, at most. */
const farthest = 3;
/** A strike comes at once, or so many ms later at most. */
const latest = 12;
/** More than three new instances in 5 s, and the owner makes no more. */
const betweenTraps = 2_000; // ms
const apiKey = "tml-a-secret-of-somebody";

/**
 * Runs a training loop through strikes at these points, in ways that `random` decides, and checks it. Gives the strikes that hit, and how
 * long after each load of the page its pending calls were settled, in ms.
 */
export async function struckRun(t, { how, at, random }) {
  const folder = mkdtempSync(join(tmpdir(), "tinkex-run-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const page = await pageOf(t, join(root, "tests/pages/durability.mjs"), { faults: true });
  const server = ["--static", page, "--data", join(folder, "data"), "--log-bodies"];
  let sandbox = await startSandbox(t, server);
  const { port } = new URL(sandbox.url);

  const steps = at.length * farthest + 2;
  const left = at.map((point) => ({ point, nth: 1 + Math.floor(random() * farthest) }));
  const hit = [];
  const settledAfter = [];
  let made = {};
  let browser;
  let lastTrap = -betweenTraps;

  const harness = await harnessOn(t);
  const start = async () => {
    browser ??= await launchOnProfile(t, join(folder, "profile"));
    const tab = browser.pages()[0] ?? (await browser.newPage());
    const asked = { harness: harness.url, apiKey, steps, strike: left[0], ...made };
    await tab.goto("about:blank");
    await tab.goto(`${sandbox.url}/#${encodeURIComponent(JSON.stringify(asked))}`);
  };
  // A page that is killed while it starts is no failure of the harness.
  const starting = () => start().catch(() => undefined);

  let ending = starting();
  for (;;) {
    const { what, about, answer } = await harness.next();
    if (what === "failed") throw new Error(`the page failed: ${about.error}`);
    if (what === "made") made = about;
    if (what === "settled") settledAfter.push(about.after);
    if (what !== "strike") {
      answer({});
      if (what === "done") {
        await ending;
        await check();
        assert.equal(about.instances, how === "trap" ? 1 + hit.length : 1, "each trap ended an instance");
        return { steps, hit, settledAfter };
      }
      continue;
    }
    hit.push(left.shift().point);
    const later = random() < 0.5 ? 0 : random() * latest;
    if (how === "trap") {
      await after(Math.max(0, lastTrap + betweenTraps - performance.now()));
      lastTrap = performance.now();
      answer({ trap: true, next: left[0] });
      continue;
    }
    // At once is while the page waits for the answer; later, it goes on meanwhile.
    const next = how === "server" ? left[0] : undefined;
    if (later > 0) answer({ next });
    await after(later);
    if (how === "kill") {
      await ending;
      await killed(browser, join(folder, "profile"));
      browser = undefined;
    } else if (how === "server") {
      await sandbox.kill();
      await after(random() * 200);
      sandbox = await startSandbox(t, [...server, "--port", port]);
    }
    answer({ next });
    if (how !== "server") ending = starting();
  }

  async function check() {
    const log = (await sandbox.log()).filter(({ model_id }) => model_id === made.model);
    assert.deepEqual(
      log.map(({ seq_id, ok }) => [seq_id, ok]),
      Array.from({ length: 2 * steps + 1 }, (_, n) => [n, true]),
      "each number stands once, in order",
    );
    const rates = log
      .filter(({ kind }) => kind === "optim_step")
      .map(({ body }) => JSON.parse(body).adam_params.learning_rate);
    assert.deepEqual(
      rates,
      Array.from({ length: steps }, (_, step) => (step + 1) / 1e6),
      "each step stands once",
    );
    const live = await (await ask(`sandbox/models/${encodeURIComponent(made.model)}/hash`)).json();
    const file = join(folder, "run.jsonl");
    writeFileSync(file, await (await ask("sandbox/log")).text());
    const { stdout } = await run(sandboxBinary, ["replay", "--log", file], { maxBuffer: 1 << 26 });
    const again = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))
      .find(({ model_id }) => model_id === made.model);
    assert.deepEqual(
      [again.weights_hash, again.state_hash],
      [live.weights_hash, live.state_hash],
      "the log gives the same weights",
    );
  }

  async function ask(path) {
    const response = await fetch(`${sandbox.url}/api/v1/${path}`, { headers: { "x-api-key": apiKey } });
    assert.ok(response.ok, `${path}: ${response.status}`);
    return response;
  }
}

/** A server to which the page speaks; `next` gives what it says, one after the other. */
async function harnessOn(t) {
  const said = [];
  let heard;
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const about = JSON.parse(Buffer.concat(parts).toString() || "{}");
    const answer = (value) => {
      if (response.writableEnded) return;
      response.writeHead(200, { "access-control-allow-origin": "*" }).end(JSON.stringify(value));
    };
    said.push({ what: request.url.slice(1), about, answer });
    heard?.();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    async next() {
      while (said.length === 0) await new Promise((resolve) => (heard = resolve));
      return said.shift();
    },
  };
}

/** SIGKILL for the browser of a profile; resolves when it is gone. */
async function killed(browser, profile) {
  const gone = new Promise((resolve) => browser.once("close", resolve));
  const { stdout } = await run("ps", ["-axww", "-o", "pid=,args="]);
  const own = stdout
    .split("\n")
    .filter((line) => line.includes(`--user-data-dir=${profile}`) && !line.includes("--type="))
    .map((line) => parseInt(line, 10));
  assert.ok(own.length > 0, "the browser's process is found");
  own.forEach((pid) => process.kill(pid, "SIGKILL"));
  await gone;
}
