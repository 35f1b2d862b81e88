// The console as a person meets it: the built page, served by the sandbox, in Chromium.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { consoleDist } from "../scripts/paths.mjs";
import { complaints, launchChromium } from "./support/browsers.mjs";
import { startSandbox } from "./support/sandbox.mjs";

/** Nothing here takes minutes; what does hangs. In ms. */
const HANG = 240_000;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core"), "utf8");

describe("the console", { timeout: 10 * HANG }, () => {
  test("trains at the press of one button: the held-out loss falls by half a nat, and samples show it", async (t) => {
    const { page, heard } = await open(t);
    await watchShifts(page);
    await startButton(page).click();
    await status(page, "done");

    const rows = await evaluations(page);
    const fall = rows[0].heldOut - rows.at(-1).heldOut;
    t.diagnostic(`held-out loss ${rows[0].heldOut} → ${rows.at(-1).heldOut} nats`);
    assert.equal(rows[0].step, 0);
    assert.equal(rows.at(-1).step, Number(await figure(page, "step")));
    assert.equal(rows.at(-1).heldOut, Number(await figure(page, "held-out")), "the figure is the last row’s");
    assert.ok(fall >= 0.5, `it fell by ${fall.toFixed(3)} nats`);

    const [before, after] = [await samples(page, "before"), await samples(page, "after")];
    assert.equal(after.length, 3);
    assert.ok(
      [...before, ...after].every((text) => text !== ""),
      "each prompt was gone on with",
    );
    assert.notDeepEqual(after, before, "training changed what the model says");
    assert.match(await figure(page, "speed"), /^[\d,]+$/);
    assert.ok((await shifted(page)) < 0.1, "nothing moved under the reader’s eyes");

    const loss = page.getByRole("slider", { name: "Step to read the loss at" });
    await loss.focus();
    await page.keyboard.press("Home");
    assert.match(await loss.getAttribute("aria-valuetext"), /^Step 0: .*held out \d/);
    await page.keyboard.press("ArrowRight");
    assert.match(await loss.getAttribute("aria-valuetext"), /^Step 1: training \d/);
    await accessible(page, "a run that is done");
    assert.deepEqual(heard, []);
  });

  test("trains on plain text as well, and the same seed gives the same losses", async (t) => {
    const { page, heard } = await open(t);
    await page.getByRole("radio", { name: /Plain text/ }).check();
    await page.getByLabel("Steps", { exact: true }).fill("40");
    const runs = [];
    for (let run = 0; run < 2; run++) {
      await startButton(page).click();
      await status(page, "done");
      runs.push(await evaluations(page));
    }
    assert.ok(runs[0].at(-1).heldOut < runs[0][0].heldOut);
    assert.deepEqual(runs[1], runs[0]);
    assert.deepEqual(heard, []);
  });

  test("stops in order: the steps under way are finished, evaluated and sampled", async (t) => {
    const { page, heard } = await open(t);
    await page.getByLabel("Steps", { exact: true }).fill("5000");
    await startButton(page).click();
    await stepped(page);
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await status(page, "stopped");

    const step = Number(await figure(page, "step"));
    assert.ok(step > 2 && step < 5_000, `it stopped after ${step} steps`);
    assert.equal((await evaluations(page)).at(-1).step, step);
    assert.ok((await samples(page, "after")).every((text) => text !== ""));
    assert.equal(
      await startButton(page).getAttribute("aria-disabled"),
      "false",
      "another run can be started",
    );
    assert.deepEqual(heard, []);
  });

  test("says what to do when the server goes away, and the run goes on when it is back", async (t) => {
    const data = mkdtempSync(join(tmpdir(), "tinkex-console-"));
    t.after(() => rmSync(data, { recursive: true, force: true }));
    const { page, sandbox } = await open(t, { args: ["--data", data] });
    await startButton(page).click();
    await stepped(page);
    await sandbox.kill();

    const alert = page.getByRole("alert");
    await alert.waitFor({ timeout: HANG });
    const said = await alert.innerText();
    assert.match(said, /No answer from 127\.0\.0\.1/);
    assert.match(said, /Start the server again/);
    await accessible(page, "a run that waits");

    await startSandbox(t, [...servedAgain(sandbox), "--data", data]);
    await status(page, "done");
    assert.equal(await figure(page, "step"), "300");
    assert.equal(await alert.count(), 0);
  });

  test("says what to do when the server has forgotten the run, keeps the chart, and starts again", async (t) => {
    const { page, sandbox } = await open(t);
    await startButton(page).click();
    await stepped(page);
    await sandbox.kill();
    await startSandbox(t, servedAgain(sandbox));
    await status(page, "failed");

    const alert = page.getByRole("alert");
    const said = await alert.innerText();
    assert.match(said, /no longer knows this run/);
    assert.match(said, /Start a new one/);
    assert.match(said, /chart up to step \d+ is kept/);
    assert.ok((await evaluations(page)).length > 0);
    await accessible(page, "a run that failed");

    await page.getByLabel("Steps", { exact: true }).fill("5");
    await alert.getByRole("button", { name: "Try again" }).click();
    await page.locator("[data-status=failed]").waitFor({ state: "detached", timeout: HANG });
    await status(page, "done");
  });

  test("a stop cuts short the wait for a server that says nothing", async (t) => {
    const { page } = await open(t);
    await page.getByLabel("Steps", { exact: true }).fill("5000");
    await startButton(page).click();
    await stepped(page);
    // As behind a network that drops everything: no refusal, no answer.
    await page.route("**/api/v1/**", () => {});
    await page.getByRole("alert").getByText("No answer from").waitFor({ timeout: HANG });
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await page.getByRole("button", { name: "Stop now" }).click({ timeout: HANG });
    await status(page, "stopped");
  });

  test("says what to do about a wrong key, and takes a right one", async (t) => {
    const { page, sandbox } = await open(t);
    const connect = async (key) => {
      await page.getByRole("button", { name: new URL(sandbox.url).host }).click();
      await page.getByLabel("API key").fill(key);
      await page.getByRole("button", { name: "Connect", exact: true }).click();
    };
    const alert = page.getByRole("alert");

    await connect("hello");
    await alert.getByText("That is not an API key").waitFor({ timeout: HANG });
    assert.match(await alert.innerText(), /begins with “tml-”/);
    assert.equal(await startButton(page).getAttribute("aria-disabled"), "true");

    await connect("eyJhbGciOiJub25lIn0.e30.x");
    await alert.getByText("The server refused the key").waitFor({ timeout: HANG });
    assert.match(await alert.innerText(), /Enter a key that this server knows/);
    await accessible(page, "a key that was refused");

    await connect("tml-mine");
    await alert.waitFor({ state: "detached", timeout: HANG });
    await ready(page);
    const kept = await page.evaluate(() =>
      JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]),
    );
    assert.doesNotMatch(kept, /tml-|eyJ/, "no key is stored");
  });

  test("a setting that can’t be used blocks the start, with what to enter beside it", async (t) => {
    const { page, heard } = await open(t);
    const sent = [];
    page.on("request", (request) => sent.push(request.url()));
    const steps = page.getByLabel("Steps", { exact: true });
    await steps.fill("many");
    const note = page.locator(`#${await steps.getAttribute("aria-describedby")}`);
    assert.match(await note.innerText(), /“many” is not a number/);
    await page.keyboard.press("Enter");
    assert.equal(await page.locator("[data-status]").getAttribute("data-status"), "idle");
    assert.deepEqual(
      sent.filter((url) => /create_model|forward/.test(url)),
      [],
    );
    await accessible(page, "a form with a mistake");
    await page.getByRole("button", { name: "Reset" }).click();
    assert.equal(await steps.inputValue(), "300");
    await ready(page);
    assert.deepEqual(heard, []);
  });

  test("fits a phone, in both themes, and the theme that was chosen stays", async (t) => {
    const { page, heard } = await open(t, { viewport: { width: 360, height: 740 } });
    await page.getByLabel("Steps", { exact: true }).fill("5");
    await startButton(page).click();
    await status(page, "done");
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.equal(overflow, 0, "nothing has to be scrolled sideways");
    await accessible(page, "a phone");

    await page.getByRole("radio", { name: "Dark theme" }).check({ force: true });
    const dark = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    await page.reload();
    assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor), dark);
    assert.deepEqual(heard, []);
  });
});

/** A sandbox that serves the console, and a page on it that is ready to start. */
async function open(t, { viewport = { width: 1280, height: 900 }, args = [] } = {}) {
  const sandbox = await startSandbox(t, ["--static", consoleDist, ...args]);
  const browser = await launchChromium(t);
  const page = await browser.newPage({ viewport, reducedMotion: "reduce" });
  const heard = complaints(page);
  await page.goto(sandbox.url);
  await ready(page);
  return { sandbox, page, heard };
}

const startButton = (page) => page.getByRole("button", { name: "Start training" });

const ready = (page) =>
  page.locator('form button.primary[type="submit"][aria-disabled="false"]').waitFor({ timeout: HANG });

/** Waits until the run is over, and holds how it ended. */
async function status(page, wanted) {
  const over = page.locator("[data-status=done], [data-status=stopped], [data-status=failed]");
  await over.waitFor({ timeout: HANG });
  const ended = await over.getAttribute("data-status");
  const why = ended === "failed" ? await page.getByRole("alert").innerText() : "";
  assert.equal(ended, wanted, why);
}

/** Waits until a run has made a few steps. */
const stepped = (page) =>
  page.waitForFunction(() => Number(document.querySelector("[data-figure=step]").innerText) > 2, null, {
    timeout: HANG,
  });

/** The flags with which another sandbox takes the place of one that is gone. */
const servedAgain = ({ url }) => ["--port", new URL(url).port, "--static", consoleDist];

const figure = (page, name) => page.locator(`[data-figure=${name}]`).innerText();

const samples = (page, side) => page.locator(`[data-sample=${side}] .text`).allInnerTexts();

/** The rows of the chart's table. */
async function evaluations(page) {
  const cells = await page
    .locator("table tbody tr")
    .evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent)));
  return cells.map(([step, train, heldOut]) => ({ step: Number(step), train, heldOut: Number(heldOut) }));
}

/** Adds up how much of the page moved without the user's doing, from now on. */
async function watchShifts(page) {
  await page.evaluate(() => {
    window.shifted = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
    }).observe({ type: "layout-shift" });
  });
}

const shifted = (page) => page.evaluate(() => window.shifted);

/** No violation of WCAG 2.2 A and AA or of axe's good practice, in light and in dark. */
async function accessible(page, state) {
  await page.evaluate(axe);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    const violations = await page.evaluate(async () => {
      const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
      const result = await window.axe.run(document, { runOnly: tags });
      return result.violations.map(
        ({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(", ")}`,
      );
    });
    assert.deepEqual(violations, [], `${state}, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: null });
}
