// How fast a run goes: tokens per second and the time left, from the last few seconds rather than from the whole run.

/** Milliseconds of the past that the pace is taken from: long enough to be calm, short enough to follow a change. */
const WINDOW = 5_000;

interface Mark {
  at: number;
  /** Steps and tokens since the pace was first taken. */
  steps: number;
  tokens: number;
}

export class Pace {
  #marks: Mark[] = [];

  /** A step of so many tokens was finished, `at` in ms since 1970. What came long before says nothing about now. */
  mark(at: number, tokens: number): void {
    const last = this.#marks.at(-1);
    if (last && (at < last.at || at - last.at > WINDOW)) this.#marks = [];
    this.#marks.push({ at, steps: (last?.steps ?? 0) + 1, tokens: (last?.tokens ?? 0) + tokens });
    while (this.#marks.length > 2 && at - (this.#marks[1] as Mark).at > WINDOW) this.#marks.shift();
  }

  /** Null until there is something to go by. Falls while nothing comes: `now` counts as well. */
  tokensPerSecond(now: number): number | null {
    return this.#per(now, (mark) => mark.tokens);
  }

  /** Seconds that so many steps will take, or null while that can't be known. */
  secondsFor(steps: number, now: number): number | null {
    const stepsPerSecond = this.#per(now, (mark) => mark.steps);
    return stepsPerSecond ? steps / stepsPerSecond : null;
  }

  #per(now: number, value: (mark: Mark) => number): number | null {
    const first = this.#marks[0];
    const last = this.#marks.at(-1);
    if (!first || !last || first === last || now <= first.at) return null;
    return ((value(last) - value(first)) / (now - first.at)) * 1_000;
  }
}
