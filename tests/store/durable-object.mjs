// A worker with a Durable Object that holds the store of small values to its promises, each in an object of its own.
import { smallValueStore } from "../../js/store/small-values.ts";
import { lasting, outcomes, promises, put, rejects, same, text, write } from "./promises.mjs";

/** What only this store could break. */
const cuts = {
  async "cuts records so that they fit, at every length where one piece more begins"(open, most) {
    const store = await open();
    const epoch = await store.claim("f");
    const piece = most - 4096;
    for (const length of [piece - 5, piece - 4, piece - 3, 2 * piece - 4, 2 * piece - 3]) {
      const value = crypto.getRandomValues(new Uint8Array(65536));
      const whole = Uint8Array.from({ length }, (_, i) => value[i % value.length] ^ (i >> 16));
      await write(store, epoch, [{ type: "put", key: "a", value: whole }]);
      const [[, read]] = await store.load("a");
      same(read.length, length);
      same(
        read.every((byte, i) => byte === whole[i]),
        true,
      );
    }
  },

  async "leaves no piece of what was deleted, or became shorter"(open, most, storage) {
    const store = await open();
    const epoch = await store.claim("f");
    const big = new Uint8Array(3 * most);
    const keys = async () =>
      [...(await storage.list()).keys()].filter((key) => !key.startsWith("tinkex/fence/"));
    await storage.put("mine", 1);
    for (const op of [put("a/b", 1), { type: "delete", key: "a/b" }, { type: "deletePrefix", key: "a" }]) {
      await write(store, epoch, [{ type: "put", key: "a/b", value: big }]);
      same((await keys()).length, 5);
      await write(store, epoch, [op]);
      same(await keys(), op.type === "put" ? ["mine", "tinkex/record/a/b"] : ["mine"]);
    }
    await write(store, epoch, [{ type: "put", key: "a/b", value: big }]);
    await store.forget();
    same([...(await storage.list()).keys()], ["mine"]);
  },

  async "undoes a commit that the storage refuses in its middle"(open, most, storage) {
    const transaction = (work) =>
      storage.transaction((real) =>
        work({
          get: (key) => real.get(key),
          list: (options) => real.list(options),
          delete: (key) => real.delete(key),
          put: (key, value) =>
            key.endsWith("too much") ? Promise.reject(new Error("it is too much")) : real.put(key, value),
        }),
      );
    const store = smallValueStore({ transaction }, { maxValueBytes: most });
    const epoch = await store.claim("f");
    await write(store, epoch, [put("a", 1), put("c", 1)]);
    const ops = [put("b", 2), { type: "delete", key: "a" }, { type: "deletePrefix", key: "c" }];
    await rejects(write(store, epoch, [...ops, put("too much", 1)]), "aborted");
    same(await text(await open()), { a: [1], c: [1] });
  },
};

export class Store {
  constructor({ storage }, { MOST }) {
    this.storage = storage;
    this.most = MOST;
  }

  open = async () => smallValueStore(this.storage, { maxValueBytes: this.most });

  async fetch(request) {
    const { pathname } = new URL(request.url);
    const name = decodeURIComponent(pathname.slice(1));
    if (name === "write") {
      const store = await this.open();
      const epoch = await store.claim("f");
      await write(store, epoch, [{ type: "put", key: "a", value: new Uint8Array(300_000).fill(7) }]);
      return Response.json(epoch);
    }
    if (name === "read") {
      const store = await this.open();
      const [[key, value]] = await store.load("");
      return Response.json({ key, length: value.length, last: value.at(-1), next: await store.claim("f") });
    }
    const check = { ...promises, ...lasting, ...cuts }[name];
    return Response.json(
      await outcomes({ [name]: (open) => check(open, this.most, this.storage) }, () => this.open),
    );
  }
}
export default {
  async fetch(request, { STORE }) {
    const { pathname } = new URL(request.url);
    if (pathname === "/") return Response.json(Object.keys({ ...promises, ...lasting, ...cuts }));
    return STORE.get(STORE.idFromName(pathname === "/read" ? "/write" : pathname)).fetch(request);
  },
};
