// Versions that have to agree with each other do.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "../../scripts/paths.mjs";

const json = (path) => JSON.parse(readFileSync(join(root, path), "utf8"));

test("the npm package has the version of its crate, and no dependency that a user would have to install", () => {
  const { version, dependencies, peerDependencies } = json("package.json");
  const crate = /\[workspace\.package\]\nversion = "(.+)"/.exec(
    readFileSync(join(root, "Cargo.toml"), "utf8"),
  )[1];
  assert.equal(version, crate);
  assert.deepEqual([dependencies, peerDependencies], [undefined, undefined]);
});

test("every npm package is asked for in one exact version", () => {
  for (const path of ["package.json", "tests/package.json"]) {
    for (const [name, range] of Object.entries(json(path).devDependencies)) {
      assert.match(range, /^\d+\.\d+\.\d+$/, `${name} in ${path}`);
    }
  }
});

test("every npm dependency is accounted for in docs/dependencies.md", () => {
  const accounted = readFileSync(join(root, "docs/dependencies.md"), "utf8");
  for (const path of ["package.json", "tests/package.json"]) {
    for (const name of Object.keys(json(path).devDependencies)) {
      assert.ok(accounted.includes(`| ${name} |`), `${name} of ${path} has no line in docs/dependencies.md`);
    }
  }
});
