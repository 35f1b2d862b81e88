// Times a commit as the journal makes it beside a bare strict put of as many bytes, and a training run whose calls are
// on the disk beside one whose calls are in memory.
import { datum, timed } from "../measured.mjs";
import { init, ServiceClient } from "tinkex";
import { IndexedDbStore } from "../../js/store/indexeddb.ts";
import { MemoryStore } from "../../js/store/memory.ts";

/** A request's record beside its body, in bytes. */
const HEAD = 200;

globalThis.commits = async (bytes, times) => {
  const store = new IndexedDbStore("journal", console.warn);
  const epoch = await store.claim("session/s");
  const bare = await opened();
  const journaled = [];
  const put = [];
  for (let n = 0; n < times; n++) {
    const body = random(bytes);
    const head = random(HEAD);
    const ops = [
      { type: "put", key: `request/m/${n}`, value: head },
      { type: "put", key: `body/m/${n}`, value: body },
    ];
    journaled.push(await timed(() => store.commit({ fence: "session/s", epoch, durability: "strict", ops })));
    const whole = new Uint8Array(HEAD + bytes);
    whole.set(head);
    whole.set(body, HEAD);
    put.push(await timed(() => barePut(bare, n, whole)));
  }
  await store.forget();
  bare.close();
  indexedDB.deleteDatabase("bare");
  return { journaled, put };
};

/** Turns of 5 steps, of the one and of the other, so that both meet what else the machine does: the times of each step, in ms. */
globalThis.steps = async (baseURL, times) => {
  await init();
  const runs = [];
  for (const store of [undefined, new MemoryStore()]) {
    const service = new ServiceClient({ apiKey: "tml-a-bench", baseURL, ...(store && { store }) });
    const training = await service.createLoraTrainingClient("tinkex/sandbox-1m", { rank: 8, seed: 1 });
    runs.push({ training, persistence: service.persistence, took: [] });
  }
  while (runs[0].took.length < times) {
    for (const { training, took } of runs) {
      for (let n = 0; n < 5; n++) {
        const data = Array.from({ length: 8 }, () => datum(64));
        took.push(
          await timed(async () => {
            const loss = training.forwardBackward(data, "cross_entropy");
            await training.optimStep({ learningRate: 1e-3 });
            await loss;
          }),
        );
      }
      // What this one still writes is not to be the other's cost.
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  }
  return runs.map(({ persistence, took }) => ({ persistence, took }));
};
document.title = "ready";

function opened() {
  const request = indexedDB.open("bare", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("values");
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function barePut(database, key, value) {
  return new Promise((resolve, reject) => {
    const transaction = database.transaction("values", "readwrite", { durability: "strict" });
    transaction.objectStore("values").put(value, key);
    transaction.oncomplete = resolve;
    transaction.onabort = () => reject(transaction.error);
  });
}

/** What no disk makes smaller. */
function random(length) {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 65536) {
    crypto.getRandomValues(bytes.subarray(at, Math.min(at + 65536, length)));
  }
  return bytes;
}
