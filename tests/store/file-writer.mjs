// A process that claims and writes until somebody else has claimed, and again. It says what it begins, and what became of it.
import { writeSync } from "node:fs";
import { put, write } from "./promises.mjs";

const [module, directory] = process.argv.slice(2);
const { fileStore } = await import(module);
const store = fileStore(directory);
const say = (what, key) => writeSync(1, `${what} ${key}\n`);
for (;;) {
  const epoch = await store.claim("f");
  for (let n = 0, held = true; held; n++) {
    const key = `k/${epoch}/${n}`;
    say("begun", key);
    held = await write(store, epoch, [put(key, n)], "f", n % 4 ? "relaxed" : "strict").then(
      () => true,
      (error) => {
        if (error.kind !== "fenced") throw error;
        return false;
      },
    );
    say(held ? "written" : "fenced", key);
  }
}
