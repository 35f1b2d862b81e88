// The system's browsers, driven headless by Playwright, each gone with its test.
import { chromium, firefox } from "playwright-core";
import { browserPath } from "../../scripts/setup/browsers.mjs";

/** Nothing of these changes what a page sees: they run it as root in a container, and keep it from calling home. */
const chromiumFlags = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Playwright's options with which it starts the system's Chromium, for tests that launch it in a way of their own. */
export const chromiumOptions = () => ({ executablePath: found("Chromium"), args: chromiumFlags });

/** A running Chromium as Playwright's `Browser`. */
export async function launchChromium(t, options = {}) {
  return closedAfter(t, await chromium.launch({ ...chromiumOptions(), ...options }));
}

/** Chromium on a profile that outlives it, as a context: on one of its own a page has its databases in memory. */
export async function launchOnProfile(t, profile, options = {}) {
  return closedAfter(
    t,
    await chromium.launchPersistentContext(profile, { ...chromiumOptions(), ...options }),
  );
}

/** A running Firefox. Debian's has none of Playwright's patches, so it is driven over WebDriver BiDi. */
export async function launchFirefox(t, options = {}) {
  return closedAfter(
    t,
    await firefox.launch({ channel: "moz-firefox", executablePath: found("Firefox"), ...options }),
  );
}

function closedAfter(t, browser) {
  t.after(() => browser.close());
  return browser;
}

function found(name) {
  const path = browserPath(name);
  if (path === undefined)
    throw new Error(`${name} is not here; \`node scripts/setup.mjs test\` installs it or says how.`);
  return path;
}

/** Collects what must not happen in a page: uncaught errors, and console messages at error level. */
export function complaints(page) {
  const heard = [];
  page.on("pageerror", (error) => heard.push(`uncaught: ${error.stack ?? error}`));
  page.on("console", (message) => {
    if (message.type() === "error") heard.push(`console: ${message.text()}`);
  });
  return heard;
}
