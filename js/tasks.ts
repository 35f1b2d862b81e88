// Functions of the page under the service's supervision.

import type { ServiceMethods } from "./boundary.js";
import { choices, refuse, signal, text } from "./checks.js";
import type { Handle } from "./handle.js";
import type { TaskFunction, TaskOptions } from "./types.js";

/**
 * The page's own work, in the same tree as the package's: bounded, shown by `supervision()`, and ended with the service.
 *
 * ```ts
 * const rewards = await service.tasks.spawn(async (signal) => score(samples, signal), { name: "rewards" });
 * ```
 */
export class Tasks {
  readonly #handle: Handle<ServiceMethods>;

  /** @internal */
  constructor(handle: Handle<ServiceMethods>) {
    this.#handle = handle;
  }

  /**
   * Runs a function as a task: at most 100 of a service run at a time, the others wait for a place. The promise settles as
   * the function does; what it throws is what the promise rejects with, and concerns no other task.
   *
   * A task that is ended earlier rejects at once, and the signal that its function was given fires with the same error: with
   * `ClosedError` when the service is closed, with `AbortedError` when the given `signal` fires. What doesn't heed its signal
   * goes on, and nobody waits for it. Should the WebAssembly die, the function goes on as if nothing had happened, and is
   * under supervision again when the next instance is there; with `InstanceLostError` it ends when there will be none.
   *
   * Rejects with `TooManyCallsError` when 10,000 wait for a place already.
   */
  async spawn<T>(task: TaskFunction<T>, options: TaskOptions): Promise<T> {
    if (typeof task !== "function") refuse("task", task, "a function");
    const { name, signal: given } = choices(options, { name: text, signal });
    if (name === undefined) refuse("name", name, "the task's name in the tree");
    const run = new Run(task);
    return (await this.#handle.call("spawn", { name }, given, run)) as T;
  }
}

/** One function: started once, however many instances come and go while it runs. */
export class Run {
  readonly #task: TaskFunction<unknown>;
  readonly #stop = new AbortController();
  #end: Promise<void> | undefined;
  /** How the function ended, once it has. */
  #outcome: { value: unknown } | { thrown: unknown } | undefined;

  constructor(task: TaskFunction<unknown>) {
    this.#task = task;
  }

  /** Lets the function run, later than this call, unless it does already; `ended` hears when it has ended, or what failed. */
  start(ended: (failure?: string) => void): void {
    this.#end ??= Promise.resolve()
      .then(() => this.#task(this.#stop.signal))
      .then(
        (value) => void (this.#outcome = { value }),
        (thrown: unknown) => void (this.#outcome = { thrown }),
      );
    void this.#end.then(() => {
      const end = this.#outcome;
      if (end && "thrown" in end)
        ended(end.thrown instanceof Error ? end.thrown.message : String(end.thrown));
      else ended();
    });
  }

  /** Settles its promise: as the function has, else with the error for which it is ended now. */
  settle(resolve: (value: unknown) => void, reject: (reason: unknown) => void, error?: Error): void {
    if (!this.#outcome && error) this.#stop.abort(error);
    if (!this.#outcome) reject(error);
    else if ("thrown" in this.#outcome) reject(this.#outcome.thrown);
    else resolve(this.#outcome.value);
  }
}
