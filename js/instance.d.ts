// The generated glue of the WebAssembly as a factory: each call gives a glue of its own, with nothing shared between two,
// so that what an instance leaves behind when it dies can't reach into the next.

import type { LogLevel, SupervisionRow } from "./boundary.js";

/** Shadow the real ones inside the glue, so that the owner can cut off what a dead instance has started. */
export interface InstanceGlobals {
  setTimeout: (callback: () => void, ms?: number) => unknown;
  clearTimeout: (handle: unknown) => void;
  queueMicrotask: (callback: () => void) => void;
  /** Undefined where the runtime has none. */
  FinalizationRegistry: typeof FinalizationRegistry | undefined;
}

/** What an instance may ask for. Bytes are a plain value of `plain.ts`, and a view of its memory until the call returns. */
export interface Host {
  settle(key: number, value: Uint8Array): void;
  fail(key: number, failure: Uint8Array): void;
  log(service: number, level: LogLevel, message: string): void;
  /** Takes an `HttpRequest` and resolves with an `HttpAnswer` or an `HttpFailure`. */
  fetch(service: number, request: Uint8Array, signal: AbortSignal): Promise<Uint8Array>;
  /** Lets the function of a `spawn` run; `ended` is called when it has ended. */
  run(key: number): void;
  /** What the run of a `run` call says, as a `FromRun`. */
  fromRun(key: number, message: Uint8Array): void;
  /** The tree has changed, at most 10 times a second. The rows are objects, and copies. */
  supervision(service: number, rows: SupervisionRow[]): void;
  /** Has the second file brought, for which nobody waits. */
  bring(): void;
  /** Writes a number as text, and gives its length. */
  writeNumber(number: number, text: Uint8Array): number;
  /** Takes a `StoreOperation` and resolves with a `StoreAnswer`. */
  store(service: number, operation: Uint8Array): Promise<Uint8Array>;
}

/** Bytes are a plain value of `plain.ts`. */
export interface Instance {
  /** Once, before anything else: throws where it can't be made an instance. */
  begin(module: WebAssembly.Module): void;
  /** The second file is there, of the same build: once, before anything of it is asked for. */
  provide_deferred(module: WebAssembly.Module): void;
  /** A `ToOwner`. Calls are answered through the host by their keys, exactly once. */
  tell(message: Uint8Array): void;
  /** Undefined where there is no such service. */
  supervision(service: number): SupervisionRow[] | undefined;
}

export function createInstance(host: Host, globals: InstanceGlobals): Instance;
