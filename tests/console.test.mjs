// The console as a person meets it: the built page, served by the sandbox, in Chromium.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { consoleDist } from "../scripts/paths.mjs";
import {
  accessible,
  evaluations,
  figure,
  HANG,
  lossAt,
  open,
  fits,
  passed,
  ready,
  samples,
  start,
  startButton,
  state,
  step,
} from "./support/console.mjs";
import { startSandbox } from "./support/sandbox.mjs";

describe("the console", { timeout: 10 * HANG }, () => {
  test("trains at the press of one button: the held-out loss falls by half a nat, and samples show it", async (t) => {
    const { page, heard } = await open(t);
    await watchShifts(page);
    await start(page);
    await state(page, "completed");

    const rows = await evaluations(page);
    const fall = rows[0].heldOut - rows.at(-1).heldOut;
    t.diagnostic(`held-out loss ${rows[0].heldOut} → ${rows.at(-1).heldOut} nats`);
    assert.equal(rows[0].step, 0);
    assert.equal(rows.at(-1).step, await step(page));
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

    assert.match(await lossAt(page, ["Home"]), /^Step 0: .*held out \d/);
    assert.match(await lossAt(page, ["ArrowRight"]), /^Step 1: training \d/);
    await accessible(page, "a run that is done");
    assert.deepEqual(heard, []);
  });

  test("trains on plain text as well, and the same seed gives the same losses", async (t) => {
    const { page, heard } = await open(t);
    const runs = [];
    for (let run = 0; run < 2; run++) {
      await page.getByRole("radio", { name: /Plain text/ }).check();
      await ready(page);
      await start(page, { Steps: 40 });
      await state(page, "completed");
      runs.push(await evaluations(page));
      await page.getByRole("link", { name: "All runs" }).click();
    }
    assert.ok(runs[0].at(-1).heldOut < runs[0][0].heldOut);
    assert.deepEqual(runs[1], runs[0]);
    assert.deepEqual(heard, []);
  });

  test("says what to do when the server goes away, and the run goes on when it is back", async (t) => {
    const data = mkdtempSync(join(tmpdir(), "tinkex-console-"));
    t.after(() => rmSync(data, { recursive: true, force: true }));
    const { page, sandbox } = await open(t, { args: ["--data", data] });
    await start(page, { Steps: 60 });
    await passed(page, 2);
    await sandbox.kill();

    const alert = page.getByRole("alert");
    await alert.waitFor();
    const said = await alert.innerText();
    assert.match(said, /No answer from 127\.0\.0\.1/);
    assert.match(said, /Start the server again/);
    await accessible(page, "a run that waits");

    await startSandbox(t, [...servedAgain(sandbox), "--data", data]);
    await state(page, "completed");
    assert.equal(await step(page), 60);
    assert.equal(await alert.count(), 0);
    assert.equal(await page.locator("[data-seam]").count(), 0, "the server kept the model");
  });

  test("says what to do when the server has forgotten model and checkpoints, keeps the chart, and makes another run", async (t) => {
    const { page, sandbox } = await open(t);
    await start(page, { Steps: 5000, Checkpoint: 3 });
    await page.locator("[data-checkpoint]").first().waitFor();
    await sandbox.kill();
    await startSandbox(t, servedAgain(sandbox));
    await state(page, "paused");

    const alert = page.getByRole("alert");
    const said = await alert.innerText();
    assert.match(said, /lost the model and its checkpoints/);
    assert.match(said, /chart of \d+ steps is kept/);
    assert.ok((await evaluations(page)).length > 0);
    await accessible(page, "a run whose model is gone");

    await alert.getByRole("button", { name: "New run like this" }).click();
    assert.equal(await page.getByLabel("Checkpoint", { exact: true }).inputValue(), "3");
    await ready(page);
    await start(page, { Steps: 5 });
    await state(page, "completed");
  });

  test("a stop that waits for a server that says nothing can be left alone, and the run is kept", async (t) => {
    const { page } = await open(t);
    const id = await start(page, { Steps: 5000 });
    await passed(page, 2);
    // As behind a network that drops everything: no refusal, no answer.
    await page.context().route("**/api/v1/**", () => {});
    await page.getByRole("alert").getByText("No answer from").waitFor();
    await page.getByRole("button", { name: "Stop…" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Stop the run" }).click();
    await page.getByRole("button", { name: "Let go of it" }).click();
    const listed = page.locator(`[data-run="${id}"]`);
    await listed.getByText("No page has it open").waitFor();
    assert.match(await listed.innerText(), /Running/);
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
    await alert.getByText("That is not an API key").waitFor();
    assert.match(await alert.innerText(), /begins with “tml-”/);
    assert.equal(await startButton(page).getAttribute("aria-disabled"), "true");

    await connect("eyJhbGciOiJub25lIn0.e30.x");
    await alert.getByText("The server refused the key").waitFor();
    assert.match(await alert.innerText(), /Enter a key that this server knows/);
    await accessible(page, "a key that was refused");

    await connect("tml-mine");
    await alert.waitFor({ state: "detached" });
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
    assert.match(page.url(), /\/$/, "no run was opened");
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
    await fits(page);
    await start(page, { Steps: 5 });
    await state(page, "completed");
    await fits(page);
    await accessible(page, "a phone");

    await page.getByRole("radio", { name: "Dark theme" }).check({ force: true });
    const dark = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    await page.reload();
    assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor), dark);
    assert.deepEqual(heard, []);
  });
});

/** The flags with which another sandbox takes the place of one that is gone. */
const servedAgain = ({ url }) => ["--port", new URL(url).port, "--static", consoleDist];

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
