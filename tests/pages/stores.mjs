// A page that holds the store in IndexedDB to a store's promises, and meets what goes wrong with it in the field.
import { IndexedDbStore } from "../../js/store/indexeddb.ts";
import { namespaceOf, openStore } from "../../js/store/open.ts";
import { lasting, ok, outcomes, promises, put, rejects, same, text, write } from "../store/promises.mjs";
import fixture from "../store/indexeddb-1000.json";

let names = 0;
const fresh = () => `a test ${++names}`;
const quiet = () => {};
const opener = (name = fresh(), ...rest) => [async () => new IndexedDbStore(name, quiet, ...rest), name];

globalThis.promises = () => outcomes({ ...promises, ...lasting }, () => opener()[0]);
globalThis.faults = () => outcomes(faults, () => undefined);

const faults = {
  async "a strict commit is one transaction that the browser holds to be strict, a relaxed one is not"() {
    const store = new IndexedDbStore(fresh(), quiet);
    const epoch = await store.claim("f");
    const seen = [];
    await patched(
      IDBDatabase.prototype,
      "transaction",
      function (transaction, ...args) {
        const made = transaction.apply(this, args);
        // Browsers that don't know it write strictly anyway.
        seen.push([made.mode, made.durability ?? args[2].durability]);
        return made;
      },
      async () => {
        await write(store, epoch, [put("a", 1), put("b", 2), { type: "deletePrefix", key: "c" }]);
        await write(store, epoch, [put("a", 3)], "f", "relaxed");
      },
    );
    same(seen, [
      ["readwrite", "strict"],
      ["readwrite", "relaxed"],
    ]);
  },

  async "relaxed commits go with the next one under their epoch, in one transaction, or soon by themselves"() {
    const store = new IndexedDbStore(fresh(), quiet);
    const [f, g] = [await store.claim("f"), await store.claim("g")];
    const seen = [];
    const counting = function (transaction, ...args) {
      seen.push(args[2].durability);
      return transaction.apply(this, args);
    };
    await patched(IDBDatabase.prototype, "transaction", counting, async () => {
      await Promise.all([
        write(store, f, [put("a", 1), put("b", 1)], "f", "relaxed"),
        write(store, f, [{ type: "delete", key: "a" }, put("b", 2)], "f", "relaxed"),
        write(store, f, [put("b", 3)]),
      ]);
      same(seen.splice(0), ["strict"]);
      await Promise.all([
        write(store, f, [put("c", 1)], "f", "relaxed"),
        write(store, g, [put("c", 2)], "g", "relaxed"),
        rejects(write(store, f + 1, [put("c", 3)], "f", "relaxed"), "fenced"),
      ]);
      same(seen.splice(0), ["relaxed", "relaxed", "relaxed"]);
      // Whoever asks sees what was written before.
      write(store, f, [put("d", 4)], "f", "relaxed");
      same(await text(store), { b: [3], c: [2], d: [4] });
    });
  },

  async "an aborted transaction is made again, and one that always aborts leaves nothing behind"() {
    const store = new IndexedDbStore(fresh(), quiet);
    const epoch = await store.claim("f");
    const aborting = (times) =>
      function (transaction, ...args) {
        const made = transaction.apply(this, args);
        if (times-- > 0) setTimeout(() => made.abort());
        return made;
      };
    // Long enough a transaction that it is still there when the abort comes.
    const ops = Array.from({ length: 2000 }, (_, i) => put(`a/${i}`, 1));
    await patched(IDBDatabase.prototype, "transaction", aborting(2), () => write(store, epoch, ops));
    same((await store.load("a/")).length, ops.length);
    const error = await patched(IDBDatabase.prototype, "transaction", aborting(Infinity), () =>
      rejects(write(store, epoch, [put("b"), { type: "deletePrefix", key: "a/" }, ...ops]), "aborted"),
    );
    ok(error.retryable);
    same((await store.load("")).length, ops.length);
  },

  async "a commit that must be made again still comes before those that were called after it"() {
    const store = new IndexedDbStore(fresh(), quiet);
    const epoch = await store.claim("f");
    let times = 1;
    const failing = function (transaction, ...args) {
      if (times-- > 0) throw new DOMException("The database connection is closing.", "InvalidStateError");
      return transaction.apply(this, args);
    };
    await patched(IDBDatabase.prototype, "transaction", failing, () =>
      Promise.all([1, 2, 3].map((n) => write(store, epoch, [put("a", n)]))),
    );
    same(await text(store), { a: [3] });
  },

  async "a connection that is closing, or lost its server, is made again"() {
    const store = new IndexedDbStore(fresh(), quiet);
    const epoch = await store.claim("f");
    for (const [name, message] of [
      ["InvalidStateError", "The database connection is closing."],
      ["UnknownError", "Connection to Indexed Database server lost. Refresh the page to try again"],
      ["UnknownError", "Attempt to get records from database without an in-progress transaction"],
    ]) {
      let times = 2;
      const failing = function (transaction, ...args) {
        if (times-- > 0) throw new DOMException(message, name);
        return transaction.apply(this, args);
      };
      await patched(IDBDatabase.prototype, "transaction", failing, () => write(store, epoch, [put("a", 1)]));
      same(times, -1);
      same(await text(store), { a: [1] });
    }
  },

  async "a put that throws undoes what its commit had put before"() {
    const store = new IndexedDbStore(fresh(), quiet);
    const epoch = await store.claim("f");
    const failing = function (of, ...args) {
      if (args[1] === "b") throw new DOMException("it was refused", "DataError");
      return of.apply(this, args);
    };
    await patched(IDBObjectStore.prototype, "put", failing, () =>
      rejects(write(store, epoch, [put("a"), put("b")]), "aborted"),
    );
    same(await text(store), {});
  },

  async "a disk without room refuses as quota, at once and once it is written"() {
    const store = new IndexedDbStore(fresh(), quiet);
    const epoch = await store.claim("f");
    let times = 0;
    const failing = () => {
      times += 1;
      throw new DOMException("no room", "QuotaExceededError");
    };
    const error = await patched(IDBObjectStore.prototype, "put", failing, () =>
      rejects(write(store, epoch, [put("a")]), "quota"),
    );
    ok(!error.retryable);
    same(times, 1);
    await write(store, epoch, [put("a", 1)]);
  },

  async "a database that does not open at first is opened, and its records are there"() {
    const name = fresh();
    const before = new IndexedDbStore(name, quiet);
    await write(before, await before.claim("f"), [put("a", 1)]);
    await before.close();
    let times = 2;
    const failing = function (open, ...args) {
      if (times-- > 0) throw new DOMException("Internal error opening backing store", "UnknownError");
      return open.apply(this, args);
    };
    await patched(IDBFactory.prototype, "open", failing, async () => {
      same(await text(new IndexedDbStore(name, quiet)), { a: [1] });
    });
    same(times, -1);
  },

  async "where no database opens, records are in memory, and that is said"() {
    const said = [];
    const failing = () => {
      throw new DOMException("The operation is insecure.", "SecurityError");
    };
    const store = await patched(IDBFactory.prototype, "open", failing, () =>
      openStore(fresh(), (message) => said.push(message)),
    );
    same(store.persistence, "memory");
    same(said.length, 1);
    ok(/insecure.*memory/.test(said[0]), said[0]);
    await write(store, await store.claim("f"), [put("a")]);
  },

  async "a database that lost its object stores is set aside and left as it is, and the next one serves"() {
    const name = fresh();
    (await raw(name, 1000, (database) => database.createObjectStore("something else"))).close();
    for (const records of [{}, { a: [1] }]) {
      const said = [];
      const store = new IndexedDbStore(name, (message) => said.push(message));
      same(await text(store), records);
      same(said.length, 1);
      await write(store, await store.claim("f"), [put("a", 1)]);
      await store.close();
    }
    const left = await raw(name);
    same([...left.objectStoreNames], ["something else"]);
    left.close();
    // Forgetting forgets that one as well.
    await new IndexedDbStore(name, quiet).forget();
    const databases = (await indexedDB.databases?.()) ?? [];
    same(
      databases.filter((database) => database.name.startsWith(name)),
      [],
    );
  },

  async "an upgrade that another page blocks rejects in time, can be tried again, and leaves nothing open"() {
    const name = fresh();
    const stubborn = await raw(name, 1);
    const store = new IndexedDbStore(name, quiet);
    const began = performance.now();
    const error = await rejects(store.claim("f"), "blocked");
    ok(performance.now() - began >= 1000, "the other page had time to let go");
    ok(error.retryable);
    stubborn.close();
    await store.claim("f");
    await store.close();
    // A connection that had come late, and stayed, would block this.
    (await raw(name, 5000)).close();
  },

  async "it lets go at once when another page upgrades or deletes, and says so"() {
    const name = fresh();
    const said = [];
    const store = new IndexedDbStore(name, (message) => said.push(message));
    const epoch = await store.claim("f");
    await write(store, epoch, [put("a", 1)]);
    (await raw(name, 1001)).close();
    same(said.length, 1);
    // Of the same thousand: records are as they were.
    await write(store, epoch, [put("b", 2)]);
    same(await text(store), { a: [1], b: [2] });
    await new IndexedDbStore(name, quiet).forget();
    same(said.length, 2);
    await rejects(write(store, epoch, [put("a")]), "fenced");
  },

  async "a page that is put aside lets go, and writes on when it is back"() {
    const name = fresh();
    const said = [];
    const store = new IndexedDbStore(name, (message) => said.push(message));
    const epoch = await store.claim("f");
    store.letGo();
    await Promise.resolve();
    (await raw(name, 1001)).close();
    same(said, []);
    const written = write(store, epoch, [put("a", 1)]);
    await new Promise((resolve) => setTimeout(resolve, 20));
    (await raw(name, 1002)).close();
    same(said, []);
    store.goOn();
    await written;
    same(await text(store), { a: [1] });
    await store.close();
  },

  async "a page that is put aside while it writes gives that up for those who wait, and writes it when it is back"() {
    const name = fresh();
    const store = new IndexedDbStore(name, quiet);
    const epoch = await store.claim("f");
    let begun;
    const writing = new Promise((resolve) => (begun = resolve));
    const seen = function (transaction, ...args) {
      begun();
      return transaction.apply(this, args);
    };
    const written = write(store, epoch, [put("a", 1)]);
    await patched(IDBDatabase.prototype, "transaction", seen, () => writing);
    store.letGo();
    const other = await raw(name);
    same(await got(other.transaction("records").objectStore("records").getAllKeys()), []);
    other.close();
    store.goOn();
    await written;
    same(await text(store), { a: [1] });
    await store.close();
  },

  async "a database of a newer version is refused and left as it is"() {
    const name = fresh();
    const before = new IndexedDbStore(name, quiet);
    const epoch = await before.claim("f");
    await write(before, epoch, [put("a", 1)]);
    (await raw(name, 2000, (database) => database.createObjectStore("what we don't know"))).close();
    await rejects(before.load(""), "too_new");
    await rejects(
      openStore(name, quiet).then(() => before.load("")),
      "too_new",
    );
    const now = await raw(name);
    same(now.version, 2000);
    same([...now.objectStoreNames], ["fences", "records", "what we don't know"]);
    same([...(await got(now.transaction("records").objectStore("records").get("a")))], [1]);
    now.close();
  },

  async "a database as version 1000 left it is read, and its epochs go on"() {
    const name = fresh();
    const old = await raw(name, fixture.version, (database) => {
      for (const [store, rows] of Object.entries(fixture.stores)) {
        const made = database.createObjectStore(store);
        for (const [key, value] of rows) made.put(Array.isArray(value) ? Uint8Array.from(value) : value, key);
      }
    });
    old.close();
    const store = new IndexedDbStore(name, quiet);
    same(await text(store), Object.fromEntries(fixture.stores.records));
    const [[fence, epoch]] = fixture.stores.fences;
    await write(store, epoch, [put("b", 1)], fence);
    same(await store.claim(fence), epoch + 1);
  },

  async "an upgrade that ends in its middle leaves the old version, and begins again"() {
    const [open, name] = opener();
    const old = await open();
    const epoch = await old.claim("f");
    await write(old, epoch, [put("a", 1)]);
    await old.close();
    const ran = [];
    const steps = (fails) => [
      [1000, () => ran.push("never: it is there")],
      [1001, (database) => ran.push("one") && database.createObjectStore("more")],
      [
        1002,
        (database) => {
          ran.push("two");
          if (fails) throw new Error("the page is gone");
          database.createObjectStore("still more");
        },
      ],
    ];
    await hushed(() => rejects(new IndexedDbStore(name, quiet, steps(true)).open(), "unavailable"));
    const between = await raw(name);
    same([between.version, [...between.objectStoreNames]], [1000, ["fences", "records"]]);
    between.close();
    ran.length = 0;
    const upgraded = new IndexedDbStore(name, quiet, steps(false));
    await write(upgraded, epoch, [put("b", 2)]);
    same(await text(upgraded), { a: [1], b: [2] });
    same(ran, ["one", "two"]);
    await upgraded.close();
    // And a page with the older version of this package still reads it.
    same(await text(await open()), { a: [1], b: [2] });
  },

  async "servers, accounts and keys have places of their own, whose names tell 16 bits of a key"() {
    const places = new Set([
      namespaceOf("https://a.example", "tml-one"),
      namespaceOf("https://b.example", "tml-one"),
      namespaceOf("https://a.example", "tml-two"),
      namespaceOf("https://a.example", "tml-one", "mine"),
      namespaceOf("https://a.example", "tml-one", "yours"),
    ]);
    same(places.size, 5);
    same(
      namespaceOf("https://a.example", "tml-one", "mine"),
      namespaceOf("https://a.example", "tml-two", "mine"),
    );
    const all = new Set(Array.from({ length: 300_000 }, (_, i) => namespaceOf("", `tml-${i}`)));
    ok(all.size > 60_000 && all.size <= 65_536, `${all.size} places of 300,000 keys`);
  },
};

/** Steps of a test: what only its driver can do to the page's storage comes between them. */
const driven = new IndexedDbStore("driven", quiet);
let held;
globalThis.driven = {
  async begin() {
    held = await driven.claim("f");
    await write(driven, held, [put("a", 1)]);
  },
  /** Gives the kind of the error, if there is one. */
  async commit(bytes) {
    const value = crypto.getRandomValues(new Uint8Array(Math.min(bytes, 65536)));
    const ops = Array.from({ length: Math.ceil(bytes / value.length) }, (_, i) => ({
      type: "put",
      key: `b/${i}`,
      value,
    }));
    return write(driven, held, [{ type: "deletePrefix", key: "a" }, ...ops]).then(
      () => "written",
      (error) => error.kind,
    );
  },
  keys: async () => (await driven.load("")).map(([key]) => key),
};

globalThis.persistence = async () => {
  const said = [];
  const store = await openStore("here", (message) => said.push(message));
  return { persistence: store.persistence, said };
};
document.title = "ready";

/** Runs `work` while a method is another one, which is given the real one first. */
async function patched(prototype, method, replacement, work) {
  const real = prototype[method];
  prototype[method] = function (...args) {
    return replacement.call(this, real, ...args);
  };
  try {
    return await work();
  } finally {
    prototype[method] = real;
  }
}

/** Runs `work` and keeps what an upgrade throws from the page's error event. */
async function hushed(work) {
  const hush = (event) => event.preventDefault();
  addEventListener("error", hush);
  try {
    return await work();
  } finally {
    removeEventListener("error", hush);
  }
}

/** A connection without a store around it. */
async function raw(name, version, upgrade) {
  const request = indexedDB.open(name, version);
  if (upgrade) request.onupgradeneeded = () => upgrade(request.result);
  return got(request);
}

function got(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("blocked: a connection was left open"));
  });
}
