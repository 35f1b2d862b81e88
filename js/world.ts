// What instances reach of the outside, where they live: `fetch` and stores of their own, and those that the page was given.
// It outlives them, and so does what it keeps.

import type {
  FromOwner,
  HttpAnswer,
  HttpFailure,
  HttpRequest,
  StoreAnswer,
  StoreOperation,
  WireGiven,
} from "./boundary.js";
import { IndexedDbStore } from "./store/indexeddb.js";
import { openStore } from "./store/open.js";
import { type Store, StoreError } from "./store/store.js";

/** What a service was given on the page, as instances reach it. */
export interface Given {
  fetch(service: number, request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer | HttpFailure>;
  store(service: number, operation: StoreOperation): Promise<StoreAnswer>;
}

export class World implements Given {
  readonly #page: Given;
  readonly #say: (message: FromOwner) => void;
  readonly #services = new Map<number, WireGiven>();
  /** By place, as services of one server and account share theirs. One that could not be opened is tried again. */
  readonly #stores = new Map<string, Promise<Store>>();

  constructor(page: Given, say: (message: FromOwner) => void) {
    this.#page = page;
    this.#say = say;
  }

  open(service: number, given: WireGiven): void {
    this.#services.set(service, given);
  }

  /** Of a service that wasn't given its own, the global one of this moment. */
  fetch(service: number, request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer | HttpFailure> {
    if (this.#services.get(service)?.fetch) return this.#page.fetch(service, request, signal);
    return exchange((url, init) => fetch(url, init), request, signal);
  }

  /** In the order in which they were asked for. */
  store(service: number, operation: StoreOperation): Promise<StoreAnswer> {
    const given = this.#services.get(service);
    if (given?.store) return this.#page.store(service, operation);
    return operate(() => this.#open(given?.place ?? "", service), operation);
  }

  /** Deletes what is kept in a place. */
  forget(service: number, place: string): Promise<StoreAnswer> {
    return answered(async () => {
      await (await this.#open(place, service)).forget();
      return {};
    });
  }

  /** The page is put aside: its stores hold nobody up meanwhile, and do nothing before it is back. */
  letGo(): void {
    this.#databases((database) => database.letGo());
  }

  goOn(): void {
    this.#databases((database) => database.goOn());
  }

  #databases(tell: (database: IndexedDbStore) => void): void {
    for (const opening of this.#stores.values()) {
      opening.then((store) => store instanceof IndexedDbStore && tell(store)).catch(() => undefined);
    }
  }

  async #open(place: string, service: number): Promise<Store> {
    let opening = this.#stores.get(place);
    if (!opening) {
      const warn = (message: string) => this.#say({ type: "log", service, level: "warn", message });
      opening = openStore(place, warn);
      this.#stores.set(place, opening);
      opening.catch(() => this.#stores.delete(place));
    }
    const store = await opening;
    this.#say({ type: "kept", service, persistence: store.persistence });
    return store;
  }
}

/** One operation. What was begun is written, whether or not anybody waits for it. */
export function operate(open: () => Store | Promise<Store>, operation: StoreOperation): Promise<StoreAnswer> {
  return answered(async () => {
    const store = await open();
    if ("load" in operation) return { records: await store.load(operation.load) };
    if ("claim" in operation) return { epoch: await store.claim(operation.claim) };
    await store.commit(operation);
    return {};
  });
}

async function answered(work: () => Promise<StoreAnswer>): Promise<StoreAnswer> {
  try {
    return await work();
  } catch (thrown) {
    const kind = thrown instanceof StoreError ? thrown.kind : "aborted";
    return { failure: kind, message: wordsOf(thrown) };
  }
}

/** One request and its whole answer, or words for why there is none. */
export async function exchange(
  fetch: (url: string, init: RequestInit) => Promise<Response>,
  { url, ...init }: HttpRequest,
  signal: AbortSignal,
): Promise<HttpAnswer | HttpFailure> {
  try {
    const response = await fetch(url, { ...init, signal });
    const headers: Record<string, string> = {};
    for (const name of READ_HEADERS) {
      const value = response.headers.get(name);
      if (value !== null) headers[name] = name === "retry-after" ? secondsOf(value) : value;
    }
    return { status: response.status, headers, body: new Uint8Array(await response.arrayBuffer()) };
  } catch (thrown) {
    return { failure: wordsOf(thrown) };
  }
}

/** Headers of an answer that the client reads. */
const READ_HEADERS = [
  "content-type",
  "retry-after",
  "retry-after-ms",
  "x-should-retry",
  "x-deprecation-note",
  "x-deprecation-level",
];

/** What `retry-after` says, in seconds, also where it is a date. */
function secondsOf(after: string): string {
  return Number.isNaN(Number(after)) ? `${(Date.parse(after) - Date.now()) / 1000}` : after;
}

/** What a thrown value says of itself, and of its cause: `fetch failed` alone says nothing. */
function wordsOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return typeof thrown === "string" ? thrown : "fetch failed";
  return thrown.cause instanceof Error ? `${thrown.message} (${thrown.cause.message})` : thrown.message;
}
