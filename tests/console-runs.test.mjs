// Runs in the console: they outlive their page, take commands from any tab, and show where they went on with another model.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { complaints } from "./support/browsers.mjs";
import {
  accessible,
  checkpoints,
  evaluations,
  HANG,
  lossAt,
  open,
  fits,
  passed,
  samples,
  start,
  state,
  step,
} from "./support/console.mjs";

describe("a run in the console", { timeout: 10 * HANG }, () => {
  test("goes on after a reload in the middle, with its whole history on the chart", async (t) => {
    const { page, heard, sandbox } = await open(t);
    await start(page, { Steps: 40, Evaluate: 5, Sample: 10, Checkpoint: 10 });
    await passed(page, 12);
    const [rows, first] = [await evaluations(page), await lossAt(page, ["Home", "ArrowRight"])];
    const before = await samples(page, "before");
    await page.reload();

    await state(page, "running");
    assert.ok((await step(page)) >= 12, "not from the beginning");
    assert.deepEqual((await evaluations(page)).slice(0, rows.length), rows);
    assert.equal(await lossAt(page, ["Home", "ArrowRight"]), first);
    assert.deepEqual(await samples(page, "before"), before);
    await state(page, "completed");
    assert.equal(await step(page), 40);
    assert.deepEqual(
      (await evaluations(page)).map(({ step }) => step),
      [0, 5, 10, 15, 20, 25, 30, 35, 40],
    );
    assert.deepEqual(await checkpoints(page), [10, 20, 30, 40]);
    const steps = (await sandbox.log()).filter(({ kind }) => kind === "optim_step");
    assert.equal(steps.length, 40, "each step was applied once");
    assert.deepEqual(heard, []);
  });

  test("is listed with its state and the cause, and its page is found from there", async (t) => {
    const { page, heard } = await open(t);
    await page.getByText("No run yet").waitFor();
    await accessible(page, "no run yet");
    await page.getByLabel("Name").fill("A first try");
    const id = await start(page, { Steps: 5000 });
    await passed(page, 2);
    await page.getByRole("button", { name: "Pause" }).click();
    await state(page, "paused");
    await page.getByRole("link", { name: "All runs" }).click();

    const listed = page.locator(`[data-run="${id}"]`);
    await listed.getByText(/Paused by you, since \d\d:\d\d\. Ends when you resume it/).waitFor();
    assert.match(await listed.innerText(), /A first try[^]*sandbox-1m[^]*Step \d+ of 5,000[^]*Loss \d/);
    await accessible(page, "a list of runs");
    await page.setViewportSize({ width: 360, height: 740 });
    await fits(page);

    await page.reload();
    await listed.getByText("Paused by you").waitFor();
    assert.match(await listed.innerText(), /Step \d+ of 5,000[^]*Loss \d/, "read from what is kept");
    await listed.getByRole("link", { name: "A first try" }).click();
    await state(page, "paused");
    assert.deepEqual(heard, []);
  });

  test("is paused, resumed, saved when asked, and stopped after a dialog that says what becomes of it", async (t) => {
    const { page, heard } = await open(t);
    await start(page, { Steps: 5000, Checkpoint: 5000 });
    await passed(page, 2);
    await page.getByRole("button", { name: "Pause" }).click();
    await state(page, "paused");
    const resume = page.getByRole("button", { name: "Resume" });
    await resume.waitFor();
    await accessible(page, "a run that is paused");
    await page.waitForFunction(settled, null, { polling: 1_000 });
    const at = await step(page);
    await resume.click();
    await passed(page, at);

    await page.getByRole("button", { name: "Checkpoint now" }).click();
    await page.locator("[data-checkpoint]").getByText("asked for").waitFor();
    const [saved] = await checkpoints(page);
    await passed(page, saved);

    await page.getByRole("button", { name: "Stop…" }).click();
    const dialog = page.getByRole("dialog");
    assert.match(await dialog.innerText(), /can’t be resumed/);
    assert.match(await dialog.innerText(), new RegExp(`of step ${saved}: \\d+ steps? since are lost`));
    await accessible(page, "the dialog that asks");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "hidden" });
    await state(page, "running");

    await page.getByRole("button", { name: "Stop…" }).click();
    await dialog.getByRole("button", { name: "Stop the run" }).click();
    await state(page, "stopped");
    const last = await step(page);
    assert.deepEqual(await checkpoints(page), [saved, last], "with a last checkpoint");
    assert.equal(await page.getByRole("button", { name: /Pause|Resume|Stop/ }).count(), 0);
    assert.deepEqual(heard, []);
  });

  test("is followed and commanded from a second tab, which takes over when the first is closed", async (t) => {
    const { page, context } = await open(t);
    await start(page, { Steps: 5000 });
    await passed(page, 2);
    assert.equal(await page.locator("[data-role]").innerText(), "Runs in this tab");

    const second = await context.newPage();
    second.setDefaultTimeout(HANG);
    const heard = complaints(second);
    await second.goto(page.url());
    await state(second, "running");
    const role = second.locator("[data-role]");
    assert.equal(await role.innerText(), "Runs in another tab, followed here");
    await passed(second, await step(second));
    assert.equal((await evaluations(second))[0].step, 0, "with the whole history");

    await second.getByRole("button", { name: "Pause" }).click();
    await Promise.all([state(page, "paused"), state(second, "paused")]);
    await second.getByRole("button", { name: "Resume" }).click();
    await Promise.all([state(page, "running"), state(second, "running")]);

    const at = await step(second);
    await page.close();
    await role.getByText("Runs in this tab").waitFor();
    await passed(second, at + 3);
    assert.deepEqual(heard, []);
  });

  test("shows where it went on with another model, and why", async (t) => {
    const { page, sandbox } = await open(t);
    await start(page, { Steps: 40, Checkpoint: 10, Evaluate: 5 });
    await page.locator("[data-checkpoint='10']").waitFor();
    await passed(page, 12);
    await endSessions(sandbox);

    const seam = page.locator("[data-seam='2']");
    await seam.waitFor();
    const why = seam.getByRole("tooltip");
    assert.equal(await why.isVisible(), false);
    const mark = seam.getByRole("button", { name: "Model 2" });
    await mark.hover();
    assert.match(
      await why.innerText(),
      /went on with a new model, from the checkpoint of step 10\. Steps? 11.* made again/,
    );
    await page.mouse.move(0, 0);
    await mark.focus();
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Tab");
    assert.equal(await why.isVisible(), true, "by the keyboard as well");
    await accessible(page, "a seam");

    await state(page, "completed");
    assert.deepEqual(
      (await evaluations(page)).map(({ step }) => step),
      [0, 5, 10, 15, 20, 25, 30, 35, 40],
      "each step stands once",
    );
    await page.getByText("made again", { exact: true }).waitFor();
    await page.reload();
    await seam.waitFor();
    await page.setViewportSize({ width: 360, height: 740 });
    await fits(page);
  });
});

/** Whether the steps under way are finished: none was since the last look. */
function settled() {
  const now = document.querySelector("[data-figure=step]").innerText;
  const before = window.stepBefore;
  window.stepBefore = now;
  return now === before;
}

/** As a server does with sessions that it has not heard of for long. */
async function endSessions({ url }) {
  const headers = { "x-api-key": "tml-a-test", "content-type": "application/json" };
  const { sessions } = await (await fetch(`${url}/api/v1/sessions`, { headers })).json();
  for (const id of sessions) {
    const body = JSON.stringify({ reason: { type: "interrupted" }, detail: null });
    const answer = await fetch(`${url}/api/v1/sessions/${id}/finish`, { method: "POST", headers, body });
    assert.ok(answer.ok, await answer.text());
  }
}
