// Brings what `npm start` or `npm test` needs and doesn't find. Says first what it will do; says nothing when all is there.
import { pathToFileURL } from "node:url";
import { nightly, stable } from "./pins.mjs";
import { main, Stop } from "./run.mjs";
import { browserNeeds } from "./setup/browsers.mjs";
import { npmNeed } from "./setup/npm.mjs";
import { rustNeed } from "./setup/rust.mjs";
import { wasmToolNeeds } from "./setup/wasm-tools.mjs";

const purposes = {
  sandbox: () => [rustNeed(stable)],
  start: () => building(stable),
  test: () => [
    // Clippy reads what only a browser compiles, too.
    ...building({ ...stable, targets: nightly.targets }),
    npmNeed("tests", "the browsers' driver and edge runtime", "about 20 s"),
    ...browserNeeds(),
  ],
};

const building = (native) => [
  rustNeed(native),
  rustNeed(nightly),
  npmNeed(".", "to build the package and the console", "about 20 s"),
  ...wasmToolNeeds(),
];

/**
 * Installs what is missing for a purpose: "sandbox" (the server alone), "start" (building all that a user sees) or "test".
 * A need is `{ what, takes, isMet(), install() }`; those that are met cost a look.
 */
export async function setup(purpose) {
  if (Number(process.versions.node.split(".")[0]) < 20) {
    throw new Stop(`This is Node ${process.versions.node}; 20 or newer is needed.`);
  }
  const missing = purposes[purpose]().filter((need) => !need.isMet());
  if (missing.length === 0) return;
  console.log(`Set-up (${purpose}), this once. Missing:`);
  for (const { what, takes } of missing) console.log(`  - ${what} (${takes})`);
  for (const { what, install, isMet } of missing) {
    console.log(`\n${what}`);
    const began = performance.now();
    await install();
    if (!isMet())
      throw new Stop(`The set-up of this ended without an error, and yet it is not there: ${what}`);
    console.log(`  done in ${Math.ceil((performance.now() - began) / 1000)} s`);
  }
  console.log("\nSet-up done.\n");
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await main(() => {
    const purpose = process.argv[2] ?? "start";
    if (!(purpose in purposes))
      throw new Stop(`node scripts/setup.mjs takes one of ${Object.keys(purposes).join(", ")}`);
    return setup(purpose);
  });
}
