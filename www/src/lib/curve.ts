// The numbers behind the chart, kept as measured. Smoothing makes a second line and never replaces the first. Where a run goes
// back to a checkpoint, the steps that it lost are cut off the line and kept as one of their own.

/** One evaluation on held-out data, with the training loss since the one before: a row of the chart's table. */
export interface Evaluation {
  step: number;
  /** Mean training loss of the steps since the last evaluation; null before the first step. */
  train: number | null;
  heldOut: number;
}

/** Where the run went on with another model, from a step that it had been beyond. */
export interface Seam {
  /** It goes on behind this one. */
  step: number;
  /** The one that the lost model had reached. */
  reached: number;
  /** Which of the run's models begins here. */
  incarnation: number;
  reason: string;
  /** Whether it goes on from a checkpoint, and not from nothing. */
  fromCheckpoint: boolean;
  /** Milliseconds since 1970. */
  at: number;
}

/** Columns of one length, as uPlot wants them. Row 0 is the model before its first step. */
export interface Columns {
  step: number[];
  train: (number | null)[];
  smooth: (number | null)[];
  heldOut: (number | null)[];
  /** Training losses of steps that were lost, one column for each seam that lost some. */
  lost: (number | null)[][];
}

/** A line that ends where its model was lost. It begins at the seam, so that both are seen to part there. */
interface Lost {
  from: number;
  losses: (number | null)[];
}

export class Curve {
  #train: (number | null)[] = [null];
  #heldOut: (number | null)[] = [null];
  readonly #lost: Lost[] = [];
  readonly seams: Seam[] = [];

  /** The last step that a loss is known of. */
  get lastStep(): number {
    return this.#train.length - 1;
  }

  /** How far any line goes, lost ones included. */
  get farthest(): number {
    return Math.max(this.lastStep, ...this.#lost.map(({ from, losses }) => from + losses.length - 1));
  }

  get lostLines(): number {
    return this.#lost.length;
  }

  addStep(step: number, loss: number | null): void {
    this.#reach(step);
    this.#train[step] = loss;
  }

  addHeldOut(step: number, loss: number): void {
    this.#reach(step);
    this.#heldOut[step] = loss;
  }

  /** One that is known already changes nothing. */
  addSeam(seam: Seam): void {
    if (this.seams.some(({ incarnation }) => incarnation >= seam.incarnation)) return;
    this.seams.push(seam);
    const losses = this.#train.slice(seam.step);
    if (losses.length > 1) this.#lost.push({ from: seam.step, losses });
    this.#train = this.#train.slice(0, seam.step + 1);
    this.#heldOut = this.#heldOut.slice(0, seam.step + 1);
  }

  /** The last held-out loss, and the first one where that is another, of the line that goes on. */
  get heldOut(): { first: number | null; last: number | null } {
    const known = this.#heldOut.filter((value) => value !== null);
    return { first: known.length > 1 ? (known[0] ?? null) : null, last: known.at(-1) ?? null };
  }

  heldOutAt(step: number): number | null {
    return this.#heldOut[step] ?? null;
  }

  evaluations(): Evaluation[] {
    const rows: Evaluation[] = [];
    this.#heldOut.forEach((heldOut, step) => {
      if (heldOut === null) return;
      const since = (rows.at(-1)?.step ?? 0) + 1;
      const losses = this.#train.slice(since, step + 1).filter((value) => value !== null);
      const train = losses.length > 0 ? losses.reduce((sum, value) => sum + value, 0) / losses.length : null;
      rows.push({ step, train, heldOut });
    });
    return rows;
  }

  columns(smoothing: number): Columns {
    const length = this.farthest + 1;
    const filled = (values: readonly (number | null)[], from = 0) =>
      Array.from({ length }, (_, step) => values[step - from] ?? null);
    return {
      step: Array.from({ length }, (_, step) => step),
      train: filled(this.#train),
      smooth: filled(smoothed(this.#train, smoothing)),
      heldOut: filled(this.#heldOut),
      lost: this.#lost.map(({ from, losses }) => filled(losses, from)),
    };
  }

  /** Room up to a step. A step that nothing is known of is a gap. */
  #reach(step: number): void {
    while (this.#train.length <= step) {
      this.#train.push(null);
      this.#heldOut.push(null);
    }
  }
}

/**
 * An exponential moving average, corrected for its start at nothing, so that the first values aren't pulled to 0.
 * `weight` in [0, 1) is what the past counts. Gaps stay gaps.
 */
export function smoothed(values: readonly (number | null)[], weight: number): (number | null)[] {
  let average = 0;
  let seen = 0;
  return values.map((value) => {
    if (value === null) return null;
    seen += 1;
    average = weight * average + (1 - weight) * value;
    return average / (1 - weight ** seen);
  });
}
