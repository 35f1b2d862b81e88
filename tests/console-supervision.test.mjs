// The console's page that shows what runs: the built page, served by the sandbox, in Chromium.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { accessible, HANG, open, fits, passed, start, state } from "./support/console.mjs";

describe("the console's supervision page", { timeout: 5 * HANG }, () => {
  test("shows the session's heartbeat, and a training client while one trains", async (t) => {
    const { page, heard, href } = await training(t);
    await session(page).waitFor();
    assert.match(await session(page).innerText(), /worker\s+running/);
    const client = page.locator('tr[data-process^="training client"]');
    assert.match(await client.innerText(), /supervisor\s+running/);
    await page.locator("tr[data-kind=task]").first().waitFor();
    await accessible(page, "a run that trains");

    await page.goto(href);
    await page.getByRole("button", { name: "Stop…" }).click();
    await page.getByRole("button", { name: "Stop the run" }).click();
    await state(page, "stopped");
    await page.getByRole("link", { name: "Supervision" }).click();
    await line(page, "supervision").waitFor();
    await client.waitFor({ state: "detached" });
    assert.deepEqual(heard, []);
  });

  test("parts can be folded away by the keyboard, and stay so", async (t) => {
    const { page } = await training(t);
    const fold = page.getByRole("button", { name: "Parts of clients" });
    await fold.waitFor();
    await fold.focus();
    await page.keyboard.press("Enter");
    await line(page, "dispatcher").waitFor({ state: "detached" });
    assert.equal(await fold.getAttribute("aria-expanded"), "false");
    await page.keyboard.press("Space");
    await line(page, "dispatcher").waitFor();
  });

  test("listens only while it is seen", async (t) => {
    const { page } = await training(t);
    await line(page, "supervision").waitFor();
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
    await page.waitForFunction((shown) => document.querySelector("tbody").innerText !== shown, shown);
  });

  test("fits a phone, where what a process waits for is below its name", async (t) => {
    const { page, heard } = await training(t, { width: 360, height: 740 });
    await session(page)
      .getByText(/waits for the next heartbeat, \d+ s/)
      .waitFor();
    await fits(page);
    await accessible(page, "a phone");
    assert.deepEqual(heard, []);
  });
});

/** The page, with a run behind it that goes on. */
async function training(t, viewport) {
  const opened = await open(t, viewport && { viewport });
  await start(opened.page, { Steps: 5000 });
  await passed(opened.page, 0);
  const { href } = new URL(opened.page.url());
  await opened.page.getByRole("link", { name: "Supervision" }).click();
  return { ...opened, href };
}

const line = (page, name) => page.locator(`tr[data-process="${name}"]`);

/** That of the run: the page's own service has one as well, further up. */
const session = (page) => page.locator('tr[data-process="session"]').last();
