// The hand-written types hold against the boundary, and users' mistakes are seen by their compiler.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const tsc = fileURLToPath(new URL("../../node_modules/typescript/bin/tsc", import.meta.url));

test("the public types agree with the boundary, and refuse what the methods refuse", () => {
  const { status, stdout } = spawnSync(process.execPath, [tsc, "-p", here], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
});
