// Each mutant can still be put into the code as it is. Whether its test finds it is for `npm run mutants`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { mutants, refusalOf } from "../../scripts/mutants.mjs";

for (const mutant of mutants()) {
  test(`${mutant.name} applies`, () => assert.equal(refusalOf(mutant), ""));
}
