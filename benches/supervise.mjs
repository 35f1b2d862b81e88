// `npm run bench -- supervise`: what supervision costs beside a plain spawn on the same executor in the same run, and
// whether that is within its bars.
import { spawnSync } from "node:child_process";
import { root, target } from "../scripts/paths.mjs";

const { status } = spawnSync(
  "cargo",
  ["run", "--quiet", "--locked", "--release", "-p", "tinkex-supervise", "--example", "bench"],
  { cwd: root, stdio: "inherit", env: { ...process.env, CARGO_TARGET_DIR: target } },
);
if (status !== 0) throw new Error("the benchmark failed; cargo says why above");
