// The official Python client, installed once into a venv in the cache, which a fresh clone finds again.
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cache } from "../../scripts/paths.mjs";
import { run } from "../../scripts/run.mjs";
import { withLock } from "../../scripts/setup/lock.mjs";

const version = "0.38.0";
const venv = join(cache, `venv-tinker-${version}`);
const python = join(venv, "bin", "python");

/** Written last: an installation that was cut short has none, and is made again. */
const complete = join(venv, "complete");

/** The path of a Python that has the client. The first time it takes a minute and the network. */
export async function clientPython() {
  await withLock(`${venv}.lock`, async () => {
    if (existsSync(complete)) return;
    console.log(`  installing the Python client ${version} into ${venv} (about 1 minute, 350 MB)`);
    await run("python3", ["-m", "venv", "--clear", venv], { quiet: true });
    const options = ["--quiet", "--disable-pip-version-check"];
    await run(python, ["-m", "pip", "install", ...options, `tinker==${version}`], { quiet: true });
    writeFileSync(complete, "");
  });
  return python;
}
