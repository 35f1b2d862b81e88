// The npm packages of a folder, exactly as its lock file says.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../paths.mjs";
import { run } from "../run.mjs";
import { withLock } from "./lock.mjs";

/** `folder` is relative to the checkout; `why` says what its packages are for. */
export function npmNeed(folder, why, takes) {
  const cwd = join(root, folder);
  const stamp = join(cwd, "node_modules", ".tinkex-lock");
  // Written last, so that an install that was cut off is done again.
  const isMet = () => existsSync(stamp) && readFileSync(stamp, "utf8") === wanted();
  const wanted = () =>
    createHash("sha256")
      .update(readFileSync(join(cwd, "package-lock.json")))
      .update(`${process.platform} ${process.arch}`)
      .digest("hex");
  return {
    what: `npm packages in ${join(folder, "node_modules")}, ${why}`,
    takes,
    isMet,
    install: () =>
      withLock(join(cwd, ".npm-ci.lock"), async () => {
        if (isMet()) return;
        await run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], { cwd });
        writeFileSync(stamp, wanted());
      }),
  };
}
