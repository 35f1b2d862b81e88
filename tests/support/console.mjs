// The console in a browser, for its tests: the built page, served by a sandbox, and what a person reads from it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { consoleDist } from "../../scripts/paths.mjs";
import { complaints, launchChromium } from "./browsers.mjs";
import { startSandbox } from "./sandbox.mjs";

/** Nothing in the console's tests takes minutes; what does hangs. In ms. */
export const HANG = 240_000;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core"), "utf8");

/** A sandbox that serves the console, and a page on it that is ready to start. `context` makes further tabs. */
export async function open(t, { viewport = { width: 1280, height: 900 }, args = [] } = {}) {
  const sandbox = await startSandbox(t, ["--static", consoleDist, ...args]);
  const context = await (await launchChromium(t)).newContext({ viewport, reducedMotion: "reduce" });
  const page = await context.newPage();
  page.setDefaultTimeout(HANG);
  const heard = complaints(page);
  await page.goto(sandbox.url);
  await ready(page);
  return { page, heard, sandbox, context };
}

export const startButton = (page) => page.getByRole("button", { name: "Start training" });

export const ready = (page) =>
  page.locator('[aria-describedby="start-note"][aria-disabled="false"]').waitFor();

/** Starts a run with some of its settings changed, by their labels. Resolves to its id, on its page. */
export async function start(page, settings = {}) {
  for (const [label, value] of Object.entries(settings)) {
    await page.getByLabel(label, { exact: true }).fill(String(value));
  }
  await startButton(page).click();
  await page.waitForURL(/#\/runs\/./);
  return decodeURIComponent(new URL(page.url()).hash.slice("#/runs/".length));
}

/** Waits until the run is in this state; fails as soon as it has ended in another. */
export async function state(page, wanted) {
  const over = page.locator(
    `[data-status=${wanted}], [data-status=completed], [data-status=stopped], [data-status=failed]`,
  );
  await over.waitFor();
  assert.equal(await over.getAttribute("data-status"), wanted);
}

/** Waits until a run is behind a step. */
export const passed = (page, step) =>
  page.waitForFunction(
    (step) => Number(document.querySelector("[data-figure=step]")?.innerText) > step,
    step,
  );

export const figure = (page, name) => page.locator(`[data-figure=${name}]`).innerText();

export const step = async (page) => Number(await figure(page, "step"));

export const samples = (page, side) => page.locator(`[data-sample=${side}] .text`).allInnerTexts();

/** The steps of the checkpoints that are listed, the oldest first. */
export async function checkpoints(page) {
  const steps = await page
    .locator("[data-checkpoint]")
    .evaluateAll((rows) => rows.map((row) => Number(row.dataset.checkpoint)));
  return steps.reverse();
}

/** The rows of the chart's table. */
export async function evaluations(page) {
  const cells = await page
    .locator("[data-table=loss] tbody tr")
    .evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent)));
  return cells.map(([step, train, heldOut]) => ({ step: Number(step), train, heldOut: Number(heldOut) }));
}

/** What the chart says of a step: it has no canvas to be read. */
export async function lossAt(page, keys) {
  const slider = page.getByRole("slider", { name: "Step to read the loss at" });
  await slider.focus();
  for (const key of keys) await page.keyboard.press(key);
  return slider.getAttribute("aria-valuetext");
}

/** No violation of WCAG 2.2 A and AA or of axe's good practice, in light and in dark. */
export async function accessible(page, state) {
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

/** Nothing has to be scrolled sideways, once what is drawn has followed the window: a chart does so in a later frame. */
export const fits = (page) =>
  page.waitForFunction(() => document.documentElement.scrollWidth <= innerWidth, undefined, {
    timeout: 5_000,
  });
