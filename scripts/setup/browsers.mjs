// The browsers that tests drive, and the screen of one: the system's own, found on PATH, or installed where apt-get may.
import { ask, onPath, run, Stop } from "../run.mjs";

const browsers = [
  {
    name: "Chromium",
    variable: "CHROMIUM",
    commands: ["chromium", "chromium-browser", "google-chrome"],
    apt: "chromium",
  },
  { name: "Firefox", variable: "FIREFOX", commands: ["firefox-esr", "firefox"], apt: "firefox-esr" },
];

/** The path of a browser's program ("Chromium", "Firefox"), or undefined. A variable of its name goes first. */
export function browserPath(name) {
  const { variable, commands } = browsers.find((browser) => browser.name === name);
  const set = process.env[variable];
  return set || commands.map(onPath).find((path) => path !== undefined);
}

export function browserNeeds() {
  const needs = browsers.map(({ name, variable, apt }) => ({
    what: `${name}, for tests that drive a real browser`,
    takes: "about 30 s",
    isMet: () => browserPath(name) !== undefined,
    install: () =>
      aptInstall(
        apt,
        `Install ${name} (Debian's package is ${apt}), or set ${variable} to the path of its program, and run this again.`,
      ),
  }));
  return [...needs, screenNeed];
}

const screenNeed = {
  what: "Xvfb, a screen for the test that takes a browser with a window",
  takes: "about 20 s",
  isMet: () => process.platform !== "linux" || onPath("Xvfb") !== undefined,
  install: () => aptInstall("xvfb", "Install Xvfb (Debian's package is xvfb), and run this again."),
};

/** `otherwise` is for those on whose system it can't be done. */
async function aptInstall(name, otherwise) {
  if (ask("apt-get", ["--version"]) === undefined || process.getuid?.() !== 0) throw new Stop(otherwise);
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  await run("apt-get", ["update", "-qq"], { env });
  await run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", name], { env });
}
