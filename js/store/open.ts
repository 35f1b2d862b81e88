// The store that a service has when it is not given one.

import { IndexedDbStore } from "./indexeddb.js";
import { MemoryStore } from "./memory.js";
import { type Store, StoreError } from "./store.js";

/**
 * Where the records of a server and an account are. `account` is the user's word for it. Without one, accounts are told
 * apart by 16 bits of their keys: enough for those of one machine, and whoever reads them knows no key. Two accounts that
 * have the same ones share a place, and the server refuses each the other's sessions.
 */
export function namespaceOf(baseURL: string, apiKey: string, account?: string): string {
  let bits = 0x811c9dc5; // FNV-1a
  for (const byte of new TextEncoder().encode(apiKey)) bits = Math.imul(bits ^ byte, 0x01000193);
  return `${baseURL} ${account ?? ((bits ^ (bits >>> 16)) & 0xffff).toString(16)}`;
}

/** IndexedDB, or memory where that may not be used. Rejects with `StoreError` where it can't be used at present. */
export async function openStore(namespace: string, warn: (message: string) => void): Promise<Store> {
  const store = new IndexedDbStore(`tinkex ${namespace}`, warn);
  try {
    await store.open();
    return store;
  } catch (thrown) {
    if (!(thrown instanceof StoreError && thrown.kind === "unavailable")) throw thrown;
    const why = typeof indexedDB === "undefined" ? "There is no IndexedDB here" : thrown.message;
    warn(
      `${why}. Calls are kept in memory and end with this page or process; the option \`store\` names another place`,
    );
    return new MemoryStore();
  }
}
