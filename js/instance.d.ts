// The generated glue of the WebAssembly as a factory: each call gives a glue of its own, with nothing shared between two,
// so that what an instance leaves behind when it dies can't reach into the next.

import type { Failure, LogLevel, WireOptions } from "./boundary.js";

/** Shadow the real ones inside the glue, so that the owner can cut off what a dead instance has started. */
export interface InstanceGlobals {
  setTimeout: (callback: () => void, ms?: number) => unknown;
  clearTimeout: (handle: unknown) => void;
  queueMicrotask: (callback: () => void) => void;
  /** Undefined where the runtime has none. */
  FinalizationRegistry: typeof FinalizationRegistry | undefined;
}

/** What `fetch` is given; the body of its answer is read by `arrayBuffer()`. */
export interface FetchInit {
  method: string;
  headers: HeadersInit;
  body?: Uint8Array;
  signal?: AbortSignal;
}

/** What an instance may ask for. */
export interface Host {
  settle(key: number, value: unknown): void;
  fail(key: number, failure: Failure): void;
  log(service: number, level: LogLevel, message: string): void;
  fetch(service: number, url: string, init: FetchInit): Promise<Response>;
  /** The instance is dying: the last thing that it says. */
  aborted(): void;
}

export interface Instance {
  initSync(source: { module: WebAssembly.Module }): unknown;
  /** Once, after `initSync`. */
  start(host: Host): void;
  /** Makes a service of this number. */
  open(service: number, options: WireOptions): void;
  /** Starts a call, which is answered through the host by its key, exactly once. Client 0 is the service itself. */
  call(key: number, service: number, client: number, method: string, args: object): void;
  /** The caller lets go: the call is still answered, as aborted, or with its result if that came first. */
  cancel(key: number): void;
}

export function createInstance(globals: InstanceGlobals): Instance;
