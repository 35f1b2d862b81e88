// The console's page that shows what runs: the built page, served by the sandbox, in Chromium.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { describe, test } from "node:test";
import { consoleDist } from "../scripts/paths.mjs";
import { complaints, launchChromium } from "./support/browsers.mjs";
import { startSandbox } from "./support/sandbox.mjs";

/** Nothing here takes minutes; what does hangs. In ms. */
const HANG = 120_000;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core"), "utf8");

describe("the console's supervision page", { timeout: 5 * HANG }, () => {
  test("shows the session's heartbeat, and a training client while one trains", async (t) => {
    const { page, heard } = await training(t);
    const session = line(page, "session");
    await session.locator("td").getByText("the next heartbeat").waitFor({ timeout: HANG });
    assert.match(await session.innerText(), /worker\s+running/);
    const client = page.locator('tr[data-process^="training client"]');
    assert.match(await client.innerText(), /supervisor\s+running/);
    await line(page, "dispatcher").waitFor({ timeout: HANG });
    await page.locator("tr[data-kind=task]").first().waitFor({ timeout: HANG });
    await accessible(page, "a run that trains");

    await page.getByRole("link", { name: "Train", exact: true }).click();
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await page.locator("[data-status=stopped]").waitFor({ timeout: HANG });
    await page.getByRole("link", { name: "Supervision" }).click();
    await session.waitFor({ timeout: HANG });
    await client.waitFor({ state: "detached", timeout: HANG });
    assert.deepEqual(heard, []);
  });

  test("parts can be folded away by the keyboard, and stay so", async (t) => {
    const { page } = await training(t);
    const fold = page.getByRole("button", { name: "Parts of clients" });
    await fold.waitFor({ timeout: HANG });
    await fold.focus();
    await page.keyboard.press("Enter");
    await line(page, "dispatcher").waitFor({ state: "detached", timeout: HANG });
    assert.equal(await fold.getAttribute("aria-expanded"), "false");
    await page.keyboard.press("Space");
    await line(page, "dispatcher").waitFor({ timeout: HANG });
  });

  test("listens only while it is seen", async (t) => {
    const { page } = await training(t);
    await line(page, "supervision").waitFor({ timeout: HANG });
    await page.evaluate(() => {
      Object.defineProperty(document, "hidden", { value: true, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    const shown = await page.locator("tbody").innerText();
    await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 1_500)));
    assert.equal(await page.locator("tbody").innerText(), shown, "nothing moves on a hidden page");
    await page.evaluate(() => {
      Object.defineProperty(document, "hidden", { value: false });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await page.waitForFunction((shown) => document.querySelector("tbody").innerText !== shown, shown, {
      timeout: HANG,
    });
  });

  test("fits a phone, where what a process waits for is below its name", async (t) => {
    const { page, heard } = await training(t, { width: 360, height: 740 });
    await line(page, "session")
      .getByText(/waits for the next heartbeat, \d+ s/)
      .waitFor({ timeout: HANG });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.equal(overflow, 0, "nothing has to be scrolled sideways");
    await accessible(page, "a phone");
    assert.deepEqual(heard, []);
  });
});

/** The page, with a run behind it that goes on. */
async function training(t, viewport = { width: 1280, height: 900 }) {
  const sandbox = await startSandbox(t, ["--static", consoleDist]);
  const page = await (await launchChromium(t)).newPage({ viewport, reducedMotion: "reduce" });
  const heard = complaints(page);
  await page.goto(sandbox.url);
  const start = page.locator('form button.primary[type="submit"][aria-disabled="false"]');
  await start.waitFor({ timeout: HANG });
  await page.getByLabel("Steps", { exact: true }).fill("5000");
  await start.click();
  await page.waitForFunction(() => Number(document.querySelector("[data-figure=step]").innerText) > 0, null, {
    timeout: HANG,
  });
  await page.getByRole("link", { name: "Supervision" }).click();
  return { page, heard };
}

const line = (page, name) => page.locator(`tr[data-process="${name}"]`);

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
