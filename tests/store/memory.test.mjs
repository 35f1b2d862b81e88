// The memory store keeps a store's promises for as long as it is open.
import { test } from "node:test";
import { stores } from "./compiled.mjs";
import { promises } from "./promises.mjs";

const { MemoryStore } = await stores("memory");

for (const [name, check] of Object.entries(promises)) {
  test(`a store in memory ${name}`, () => {
    const store = new MemoryStore();
    return check(async () => store);
  });
}
