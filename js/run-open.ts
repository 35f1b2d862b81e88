// A run that works on this page: the call that lasts as long as it does, what it asks of the page, and its commands.

import type { ServiceMethods } from "./boundary.js";
import { ClosedError, DataMismatchError, TinkexError } from "./errors.js";
import type { Handle } from "./handle.js";
import type { Talk } from "./page.js";
import { runEvent } from "./run-event.js";
import type { Answer, Ask, FromRun, ToRun, WireAsk, WireRunStatus } from "./run-boundary.js";
import type { Means } from "./run-options.js";
import { StepAttempt } from "./run-step.js";
import type { RunEnd, RunEvent } from "./run-types.js";

export type Command =
  | { name: "pause" }
  | { name: "resume"; from?: "checkpoint"; step?: "restart" }
  | { name: "stop"; checkpoint: boolean }
  | { name: "checkpoint" };

export interface RunHearer {
  status(status: WireRunStatus): void;
  event(event: RunEvent): void;
}

export class OpenedRun implements Talk {
  /** Resolves with the run's first word, and rejects where it can't be opened. */
  readonly opened: Promise<void>;
  /** Resolves when it has ended or was closed; rejects where it can't be opened. */
  readonly over: Promise<RunEnd>;
  readonly #handle: Handle<ServiceMethods>;
  readonly #id: string;
  readonly #means: Means;
  readonly #hearer: RunHearer;
  #attempt: StepAttempt | undefined;
  #life: number | undefined;
  #say: (message: ToRun) => void = () => undefined;
  #first: () => void = () => undefined;

  constructor(handle: Handle<ServiceMethods>, id: string, means: Means, hearer: RunHearer) {
    this.#handle = handle;
    this.#id = id;
    this.#means = means;
    this.#hearer = hearer;
    const { data, lossFn, version, step } = means;
    const args = {
      id,
      canStep: step !== undefined,
      ...(data && { data }),
      ...(lossFn !== undefined && { lossFn }),
      ...(version !== undefined && { version }),
    };
    const first = new Promise<void>((resolve) => (this.#first = resolve));
    this.over = handle.call("run", args, undefined, this).finally(() => {
      this.#endAttempt("the run is not open here any more");
      means.source?.close();
    });
    this.opened = Promise.race([first, this.over.then(() => undefined)]);
    // Whoever waits hears it; where nobody does, it is in `over`.
    this.opened.catch(() => undefined);
  }

  command(command: Command): Promise<unknown> {
    const id = this.#id;
    switch (command.name) {
      case "pause":
        return this.#handle.call("pauseRun", { id });
      case "resume": {
        const { from, step } = command;
        return this.#handle.call("resumeRun", { id, ...(from && { from }), ...(step && { step }) });
      }
      case "stop":
        return this.#handle.call("stopRun", { id, checkpoint: command.checkpoint });
      case "checkpoint":
        return this.#handle.call("checkpointRun", { id });
    }
  }

  /** The page is hidden: the run may write a checkpoint. */
  hidden(): void {
    this.#say({ type: "hidden" });
  }

  /** Lets the run go, as it is. */
  close(): void {
    this.#endAttempt("the run was closed");
    // Why it can't be closed is why it is over.
    this.#handle.call("closeRun", { id: this.#id }).catch(() => undefined);
  }

  begin(say: (message: ToRun) => void): void {
    this.#say = say;
  }

  hear(message: FromRun, life: number, answer: (message: ToRun) => void): void {
    if (life !== this.#life && this.#life !== undefined) {
      this.#endAttempt("the WebAssembly instance died; the next one calls the step again");
    }
    this.#life = life;
    switch (message.type) {
      case "event":
        this.#hearer.event(runEvent(message.event));
        break;
      case "status":
        this.#hearer.status(message.status);
        this.#first();
        break;
      case "over":
        if (message.attempt === this.#attempt?.attempt) this.#endAttempt("the run goes on without it");
        break;
      case "ask":
        void this.#answer(message, answer);
        break;
    }
  }

  async #answer(asked: Ask, say: (message: ToRun) => void): Promise<void> {
    let answer: Answer | undefined;
    try {
      answer = await this.#answerTo(asked, say);
    } catch (thrown) {
      const failure = thrown instanceof Error ? thrown.message : String(thrown);
      const changed = TinkexError.isInstance(thrown) && thrown.code === DataMismatchError.code;
      answer = { failure, ...(changed && { kind: "data_mismatch" }) };
    }
    if (answer) say({ type: "answer", ask: asked.ask, ...answer });
  }

  async #answerTo(asked: WireAsk, say: (message: ToRun) => void): Promise<Answer | undefined> {
    const { source, step } = this.#means;
    if (asked.what === "step") {
      if (!step) return { failure: "this page has no step function" };
      this.#endAttempt("the step is called again");
      const attempt = new StepAttempt(
        { runId: this.#id, ...asked },
        {
          call: (args) => this.#handle.call("stepCall", { id: this.#id, ...args }),
          note: say,
        },
      );
      this.#attempt = attempt;
      return attempt.run(step);
    }
    if (!source) return { failure: "this page has no data" };
    if (asked.what === "rows") return { data: await source.rows(asked.rows) };
    return { ...(await source.stream(asked.cursor, asked.count)) };
  }

  #endAttempt(why: string): void {
    this.#attempt?.end(new ClosedError(`this attempt at the step is over: ${why}`));
    this.#attempt = undefined;
  }
}
