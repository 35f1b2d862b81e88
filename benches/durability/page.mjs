// Times a commit as the journal makes it, and a bare strict put of as many bytes, one after the other.
import { IndexedDbStore } from "../../js/store/indexeddb.ts";

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
document.title = "ready";

async function timed(work) {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

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
