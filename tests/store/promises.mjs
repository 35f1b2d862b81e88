// What every store promises, checked by functions that run wherever a store does: in Node, a page, an edge worker.
// Each takes `open`, which opens the same new, empty namespace however often it is called; it rejects when the promise is broken.

/** Of the stores that outlive their closing. */
export const lasting = {
  async "keeps records and epochs when it is closed and opened again"(open) {
    const store = await open();
    const epoch = await store.claim("f");
    await write(store, epoch, [put("a", 1, 2), put("b")]);
    await store.close();
    const again = await open();
    same(await text(again), { a: [1, 2], b: [] });
    await write(again, epoch, [put("c", 3)]);
    ok((await again.claim("f")) > epoch, "the epoch goes on from where it was");
  },

  async "fences a store that is still open when another one of the same namespace claims"(open) {
    const [first, second] = [await open(), await open()];
    const old = await first.claim("f");
    await write(first, old, [put("a", 1)]);
    const epoch = await second.claim("f");
    await rejects(write(first, old, [put("a", 2), put("b", 2)]), "fenced");
    same(await text(second), { a: [1] });
    await write(second, epoch, [put("a", 3)]);
    same(await text(first), { a: [3] });
  },

  async "lets two open stores write under fences of their own"(open) {
    const stores = [await open(), await open()];
    const epochs = await Promise.all(stores.map((store, i) => store.claim(`f${i}`)));
    const writes = Array.from({ length: 20 }, (_, n) =>
      write(stores[n % 2], epochs[n % 2], [put(`k${n}`, n)], `f${n % 2}`),
    );
    await Promise.all(writes);
    for (const store of stores) same(Object.keys(await text(store)).length, 20);
  },

  async "of many that claim at once, lets one write"(open) {
    const stores = await Promise.all([open(), open(), open()]);
    const claimed = await Promise.all(
      Array.from({ length: 9 }, async (_, n) => [stores[n % 3], await stores[n % 3].claim("f")]),
    );
    const epochs = claimed.map(([, epoch]) => epoch);
    same(new Set(epochs).size, 9);
    const outcomes = await Promise.allSettled(
      claimed.map(([store, epoch]) => write(store, epoch, [put(`k${epoch}`)])),
    );
    const written = epochs.filter((_, n) => outcomes[n].status === "fulfilled");
    same(written, [Math.max(...epochs)]);
    same(Object.keys(await text(stores[0])), [`k${written[0]}`]);
  },
};

export const promises = {
  async "gives the records under a prefix, in the order of their keys"(open) {
    const store = await open();
    const epoch = await store.claim("f");
    await write(store, epoch, [put("b/2", 2), put("b/10", 10), put("a", 0), put("c", 3), put("b/1", 1)]);
    const keys = async (prefix) => (await store.load(prefix)).map(([key]) => key);
    same(await keys("b/"), ["b/1", "b/10", "b/2"]);
    same(await keys(""), ["a", "b/1", "b/10", "b/2", "c"]);
    same(await keys("d"), []);
  },

  async "gives back the bytes that it was given, none and 5 MB included"(open) {
    const store = await open();
    const epoch = await store.claim("f");
    const big = Uint8Array.from({ length: 5_000_000 }, (_, i) => i * 31 + (i >> 8));
    // A view of a part, as the bytes of a memory are.
    const part = new Uint8Array(Uint8Array.of(9, 1, 2, 3, 9).buffer, 1, 3);
    await write(store, epoch, [
      { type: "put", key: "big", value: big },
      { type: "put", key: "part", value: part },
      put("none"),
    ]);
    const records = new Map(await store.load(""));
    ok(records.get("big") instanceof Uint8Array, "as a Uint8Array");
    same(records.get("big").length, big.length);
    ok(
      records.get("big").every((byte, i) => byte === big[i]),
      "every byte of 5 MB",
    );
    same([...records.get("part")], [1, 2, 3]);
    same(records.get("part").buffer.byteLength, 3);
    same([...records.get("none")], []);
    await write(store, epoch, [put("big", 7)]);
    same(await text(store), { big: [7], none: [], part: [1, 2, 3] });
  },

  async "applies the ops of a commit in their order"(open) {
    const store = await open();
    const epoch = await store.claim("f");
    await write(store, epoch, [put("a/1", 1), put("a/2", 1), put("b", 1)]);
    await write(store, epoch, [
      put("a/3", 2),
      { type: "deletePrefix", key: "a/" },
      put("a/2", 2),
      { type: "delete", key: "b" },
      { type: "delete", key: "not there" },
      put("c", 1),
      put("c", 2),
    ]);
    same(await text(store), { "a/2": [2], c: [2] });
  },

  async "deletes what begins with a prefix, and nothing beside it"(open) {
    const store = await open();
    const epoch = await store.claim("f");
    await write(store, epoch, [put("a"), put("a-"), put("a/"), put("a/~~"), put("a0"), put("b/a/")]);
    await write(store, epoch, [{ type: "deletePrefix", key: "a/" }]);
    same(Object.keys(await text(store)), ["a", "a-", "a0", "b/a/"]);
  },

  async "commits nothing under an epoch that is not the fence's, or a fence that nobody claimed"(open) {
    const store = await open();
    await rejects(write(store, 1, [put("a")]), "fenced");
    const first = await store.claim("f");
    const second = await store.claim("f");
    ok(second > first, "epochs rise");
    await rejects(write(store, first, [put("a"), { type: "deletePrefix", key: "" }]), "fenced");
    await rejects(write(store, second + 1, [put("a")]), "fenced");
    same(await text(store), {});
    await write(store, second, [put("a", 1)]);
    await rejects(write(store, first, [{ type: "deletePrefix", key: "" }]), "fenced");
    same(await text(store), { a: [1] });
  },

  async "keeps fences apart from each other and from the records"(open) {
    const store = await open();
    const [f, g] = [await store.claim("f"), await store.claim("g")];
    await store.claim("g");
    await write(store, f, [put("f", 1), { type: "deletePrefix", key: "g" }]);
    await rejects(write(store, g, [put("a")], "g"), "fenced");
    await write(store, f, [{ type: "deletePrefix", key: "" }]);
    await write(store, f, [put("a", 1)]);
    same(await text(store), { a: [1] });
  },

  async "takes commits in the order in which they are called, awaited or not"(open) {
    const store = await open();
    const epoch = await store.claim("f");
    const writes = Array.from({ length: 50 }, (_, n) =>
      write(store, epoch, [put("last", n), put(`n/${n}`)], "f", n % 3 ? "relaxed" : "strict"),
    );
    await Promise.all(writes);
    const [[, last]] = await store.load("last");
    same([...last], [49]);
    same((await store.load("n/")).length, 50);
  },

  async "forgets all records, and whoever held a fence can't commit any more"(open) {
    const store = await open();
    const epoch = await store.claim("f");
    await write(store, epoch, [put("a"), put("b")]);
    await store.forget();
    same(await text(store), {});
    await rejects(write(store, epoch, [put("a")]), "fenced");
    const next = await store.claim("f");
    await rejects(write(store, epoch, [put("a")]), "fenced");
    await write(store, next, [put("a", 1)]);
    same(await text(store), { a: [1] });
  },

  async "refuses everything once it is closed"(open) {
    const store = await open();
    const epoch = await store.claim("f");
    await store.close();
    await store.close();
    await rejects(store.load(""), "closed");
    await rejects(store.claim("f"), "closed");
    await rejects(write(store, epoch, [put("a")]), "closed");
    await rejects(store.forget(), "closed");
  },
};

/** Runs them where the caller can't be: gives by each one's name what went wrong, or null. */
export async function outcomes(checks, openNew) {
  const found = {};
  for (const [name, check] of Object.entries(checks)) {
    found[name] = await check(openNew()).then(
      () => null,
      (error) => String(error?.stack ?? error),
    );
  }
  return found;
}

export const put = (key, ...bytes) => ({ type: "put", key, value: Uint8Array.from(bytes) });

export const write = (store, epoch, ops, fence = "f", durability = "strict") =>
  store.commit({ fence, epoch, durability, ops });

/** All records, readable. */
export async function text(store) {
  return Object.fromEntries((await store.load("")).map(([key, value]) => [key, [...value]]));
}

export async function rejects(promise, kind) {
  const error = await promise.then(
    () => undefined,
    (error) => error,
  );
  ok(error !== undefined, `expected a StoreError of kind ${kind}, and it resolved`);
  ok(
    error.name === "StoreError" && error.kind === kind,
    `expected ${kind}, got ${error.kind}: ${error.stack}`,
  );
  return error;
}

export function same(got, wanted) {
  const [left, right] = [plain(got), plain(wanted)];
  ok(left === right, `expected ${right}, got ${left}`);
}

export function ok(holds, what) {
  if (!holds) throw new Error(what);
}

/** In one order, whatever the order of keys in an object. */
const plain = (value) =>
  JSON.stringify(value, (_, inner) =>
    inner && typeof inner === "object" && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
