// How fast a run goes: tokens per second and the time left, from the last few seconds rather than from the whole run.

/** Milliseconds of the past that the pace is taken from: long enough to be calm, short enough to follow a change. */
const WINDOW = 5_000;

interface Mark {
  at: number;
  step: number;
  tokens: number;
}

export class Pace {
  #marks: Mark[] = [];

  /** `at` in ms of a monotonic clock; `tokens` is the sum of all that were trained on so far. */
  mark(at: number, step: number, tokens: number): void {
    this.#marks.push({ at, step, tokens });
    while (this.#marks.length > 2 && at - (this.#marks[1] as Mark).at > WINDOW) this.#marks.shift();
  }

  /** Null until there is something to go by. Falls while nothing comes: `now` counts as well. */
  tokensPerSecond(now: number): number | null {
    return this.#per(now, (mark) => mark.tokens);
  }

  /** Seconds until `steps` are done, or null while that can't be known. */
  secondsLeft(now: number, steps: number): number | null {
    const stepsPerSecond = this.#per(now, (mark) => mark.step);
    const last = this.#marks.at(-1);
    return stepsPerSecond && last ? (steps - last.step) / stepsPerSecond : null;
  }

  #per(now: number, value: (mark: Mark) => number): number | null {
    const first = this.#marks[0];
    const last = this.#marks.at(-1);
    if (!first || !last || first === last || now <= first.at) return null;
    return ((value(last) - value(first)) / (now - first.at)) * 1_000;
  }
}
