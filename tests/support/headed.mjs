// A Chromium with a window, for what it does only to tabs that nobody sees. On Linux its screen is Xvfb.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import { chromiumOptions } from "./browsers.mjs";

/**
 * As Playwright's context, whose pages are the tabs of one window. Playwright only connects to it: what it launches itself has its
 * tabs awake, each as if it were seen.
 */
export async function launchHeaded(t, args = []) {
  const profile = mkdtempSync(join(tmpdir(), "tinkex-headed-"));
  const cleanups = [() => rmSync(profile, { recursive: true, force: true, maxRetries: 10 })];
  t.after(async () => {
    for (const cleanup of cleanups.reverse()) await cleanup();
  });
  const env = { ...process.env };
  if (process.platform === "linux") {
    const screen = run(
      "Xvfb",
      ["-displayfd", "3", "-screen", "0", "1280x800x24", "-nolisten", "tcp"],
      { stdio: ["ignore", "ignore", "ignore", "pipe"] },
      ({ stdio }) => [stdio[3], /^(\d+)$/],
    );
    cleanups.push(screen.end);
    env["DISPLAY"] = `:${await screen.started}`;
  }
  const { executablePath, args: always } = chromiumOptions();
  const own = ["--remote-debugging-port=0", `--user-data-dir=${profile}`, "--no-default-browser-check"];
  const browser = run(
    executablePath,
    [...always, ...own, ...args, "about:blank"],
    { stdio: ["ignore", "ignore", "pipe"], env },
    ({ stderr }) => [stderr, /^DevTools listening on (\S+)/],
  );
  cleanups.push(browser.end);
  const driven = await chromium.connectOverCDP(await browser.started, { noDefaults: true });
  cleanups.push(() => driven.close());
  return driven.contexts()[0];
}

/** `started` resolves to what a program says, in a line like this, when it is ready. */
function run(program, args, options, sign) {
  const child = spawn(program, args, options);
  const gone = new Promise((resolve) => child.once("close", resolve));
  const started = new Promise((resolve, reject) => {
    child.once("error", reject);
    const [stream, like] = sign(child);
    let said = "";
    createInterface({ input: stream }).on("line", (line) => {
      said += `${line}\n`;
      const [, word] = like.exec(line) ?? [];
      if (word !== undefined) resolve(word);
    });
    void gone.then(() => reject(new Error(`${program} ended before it was ready:\n${said}`)));
  });
  const end = () => {
    child.kill();
    return gone;
  };
  return { started, end };
}
