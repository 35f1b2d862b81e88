// The sandbox's program, optimised: it trains a real model. Cargo knows by itself what is up to date.
import { root, target } from "../paths.mjs";
import { run } from "../run.mjs";

export async function buildSandbox() {
  await run("cargo", ["build", "--release", "-p", "tinkex-sandbox", "--bin", "tinkex-sandbox"], {
    cwd: root,
    env: { CARGO_TARGET_DIR: target },
  });
}
