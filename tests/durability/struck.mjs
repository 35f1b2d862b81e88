// A page that is struck again and again until it says that it is done: it, its browser, its instance, or its server.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as after } from "node:timers/promises";
import { promisify } from "node:util";
import { root } from "../../scripts/paths.mjs";
import { launchOnProfile } from "../support/browsers.mjs";
import { pageOf } from "../support/page.mjs";
import { startSandbox } from "../support/sandbox.mjs";
import { allSessionsEnded } from "./log.mjs";

const apiKey = "tml-a-secret-of-somebody";

/** The point of a strike that doesn't wait for the page to pass anything: so many ms after it was asked for. */
export const anyMoment = "any moment";

/** More than three new instances in 5 s, and the owner makes no more. */
const betweenTraps = 2_000; // ms
/** A page that says nothing for so long hangs. */
const silence = 180_000; // ms

/**
 * Strikes a page of tests/pages at each of these points, one after the other, until it is done; it may be done before. A strike is
 * `{ point, nth }`, or `{ point: anyMoment, ms }`. It comes at once, or up to `latest` ms later, as `random` decides.
 * Gives the strikes that hit, what the page said in the end, and the times that it told, in ms after its load. Those of a page that was to be
 * struck at any moment are left out: slow ones would be missing.
 */
export async function struck(t, { page, faults = false, how, at, latest, random, asked, server = [] }) {
  const folder = mkdtempSync(join(tmpdir(), "tinkex-struck-"));
  let browser;
  t.after(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  const site = await pageOf(t, join(root, "tests/pages", page), { faults });
  const settings = ["--static", site, "--log-bodies", ...server];
  if (how === "server") settings.push("--data", join(folder, "data"));
  let sandbox = await startSandbox(t, settings);
  const { port } = new URL(sandbox.url);
  const profile = join(folder, "profile");
  const harness = await harnessOn(t);

  const left = [...at];
  const hit = [];
  const times = [];
  let made = {};
  /** Which load of the page it is: what one before it has said comes too late. */
  let life = 0;
  let timer;
  let lastTrap = -betweenTraps;

  const start = async () => {
    browser ??= await launchOnProfile(t, profile);
    const tab = browser.pages()[0] ?? (await browser.newPage());
    await tab.goto("about:blank");
    const hash = { harness: `${harness.url}/${life}`, apiKey, strike: left[0], ...asked, ...made };
    if (left[0]?.point === anyMoment) timer = setTimeout(() => harness.say(life, "strike"), left[0].ms);
    await tab.goto(`${sandbox.url}/#${encodeURIComponent(JSON.stringify(hash))}`, { waitUntil: "commit" });
  };
  let started;
  const starting = () => {
    life += 1;
    started = start().catch((error) => harness.say(life, "failed", { error: error.stack }));
  };

  starting();
  for (;;) {
    const { of, what, about, answer } = await harness.next(whereItIs);
    if (what === "failed") throw new Error(`the page failed: ${about.error}`);
    if (of !== life) {
      answer({});
      continue;
    }
    if (what === "made") made = about;
    if (what === "after" && left[0]?.point !== anyMoment) times.push(about.ms);
    if (what === "done") clearTimeout(timer);
    if (what !== "strike") answer({});
    if (what === "done") return { sandbox, made, hit, times, done: about };
    if (what === "strike") await strike(answer);
  }

  async function strike(answer) {
    hit.push(left.shift());
    const [next] = left;
    const later = random() < 0.5 ? 0 : random() * latest;
    if (how === "trap") {
      await after(Math.max(0, lastTrap + betweenTraps - performance.now()));
      lastTrap = performance.now();
      return answer({ trap: true, next });
    }
    const goesOn = how === "server" ? { next } : {};
    // At once is while the page waits for the answer; later, it goes on meanwhile.
    if (later > 0) answer(goesOn);
    await after(later);
    if (how === "server") {
      await sandbox.kill();
      await after(random() * 200);
      sandbox = await startSandbox(t, [...settings, "--port", port]);
      return answer(goesOn);
    }
    // A navigation that another one meets may be the one that stays.
    await started;
    if (how === "reload") answer(goesOn);
    else {
      await killed(browser, profile);
      browser = undefined;
    }
    if (how === "absence") await allSessionsEnded(sandbox, () => after(100));
    starting();
  }

  async function whereItIs() {
    const tab = browser?.pages()[0];
    const asking = tab?.evaluate(() => globalThis.whereItIs?.() ?? "nothing is known");
    const known = await Promise.race([asking, after(5_000, "it doesn't answer")]).catch(
      ({ message }) => message,
    );
    const strike = JSON.stringify(left[0]);
    return `at ${tab?.url().split("#")[0]} after ${hit.length} strikes, before ${strike}: ${JSON.stringify(known)}`;
  }
}

/** A server to which each load of the page speaks; `next` gives what it says, one after the other, and `say` speaks in its place. */
async function harnessOn(t) {
  const said = [];
  let heard;
  const say = (of, what, about = {}, answer = () => undefined) => {
    said.push({ of, what, about, answer });
    heard?.();
  };
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const about = JSON.parse(Buffer.concat(parts).toString() || "{}");
    const [, of, what] = request.url.split("/");
    say(Number(of), what, about, (value) => {
      if (response.writableEnded) return;
      response.writeHead(200, { "access-control-allow-origin": "*" }).end(JSON.stringify(value));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    say,
    async next(whereItIs) {
      if (said.length === 0) {
        const hangs = new AbortController();
        const word = new Promise((resolve) => (heard = resolve));
        const waited = after(silence, true, { signal: hangs.signal }).catch(() => false);
        if (await Promise.race([word, waited])) throw new Error(`the page hangs ${await whereItIs()}`);
        hangs.abort();
      }
      return said.shift();
    },
  };
}

/** SIGKILL for the browser of a profile; resolves when it is gone. */
export async function killed(browser, profile) {
  const gone = new Promise((resolve) => browser.once("close", resolve));
  const { stdout } = await promisify(execFile)("ps", ["-axww", "-o", "pid=,args="]);
  const own = stdout
    .split("\n")
    .filter((line) => line.includes(`--user-data-dir=${profile}`) && !line.includes("--type="))
    .map((line) => parseInt(line, 10));
  assert.ok(own.length > 0, "the browser's process is found");
  own.forEach((pid) => process.kill(pid, "SIGKILL"));
  await gone;
}
