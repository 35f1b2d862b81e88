// Skips a build step whose inputs are those of its last success, so that a second start is quick.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../paths.mjs";
import { withLock } from "../setup/lock.mjs";

/** Beside the outputs, in the checkout: whoever builds with another target folder makes the same outputs. */
const stamps = join(root, "node_modules", ".cache", "tinkex-build");

/**
 * Runs `body` unless every output is there and the content of every input is what it was. Inputs and outputs are paths in
 * the checkout, files or whole folders; an input that isn't there counts as such. `settings` is a text that counts as well.
 * Of two builds at once, the second waits and then finds the step done.
 */
export function step(name, { inputs, outputs, settings = "" }, body) {
  const stamp = join(stamps, `${name}.sha256`);
  return withLock(join(stamps, `${name}.lock`), async () => {
    const wanted = fingerprint(inputs, settings);
    const made = outputs.every((path) => existsSync(join(root, path)));
    if (made && existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
    console.log(`build: ${name}`);
    rmSync(stamp, { force: true });
    const began = performance.now();
    await body();
    writeFileSync(stamp, wanted);
    console.log(`build: ${name} done in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  });
}

/** Forgets a step's last success. */
export const forget = (name) => rmSync(join(stamps, `${name}.sha256`), { force: true });

/** A hash of the names and contents of all files under the paths. */
function fingerprint(paths, settings) {
  const hash = createHash("sha256").update(settings);
  const visit = (path) => {
    const full = join(root, path);
    const stat = statSync(full, { throwIfNoEntry: false });
    if (stat?.isDirectory()) {
      for (const name of readdirSync(full).sort()) if (!ignored.has(name)) visit(join(path, name));
    } else {
      const content = stat === undefined ? Buffer.alloc(0) : readFileSync(full);
      hash.update(JSON.stringify([path, stat !== undefined, content.length])).update(content);
    }
  };
  paths.forEach(visit);
  return hash.digest("hex");
}

const ignored = new Set(["node_modules", "dist", "target"]);
