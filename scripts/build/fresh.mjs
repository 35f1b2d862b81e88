// Skips a build step whose inputs are those of its last success, so that a second start is quick.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root, target } from "../paths.mjs";

/**
 * Runs `body` unless every output is there and the content of every input is what it was. Inputs and outputs are paths in
 * the checkout, files or whole folders; an input that isn't there counts as such. `settings` is a text that counts as well.
 */
export async function step(name, { inputs, outputs, settings = "" }, body) {
  const stamp = join(target, "tinkex-build", `${name}.sha256`);
  const wanted = fingerprint(inputs, settings);
  const made = outputs.every((path) => existsSync(join(root, path)));
  if (made && existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  console.log(`build: ${name}`);
  rmSync(stamp, { force: true });
  const began = performance.now();
  await body();
  mkdirSync(join(target, "tinkex-build"), { recursive: true });
  writeFileSync(stamp, wanted);
  console.log(`build: ${name} done in ${((performance.now() - began) / 1000).toFixed(1)} s`);
}

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
