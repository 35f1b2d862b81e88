// The numbers behind the chart: one row a step, kept as measured. Smoothing makes a second line and never replaces the first.

/** One evaluation on held-out data, with the training loss since the one before: a row of the chart's table. */
export interface Evaluation {
  step: number;
  /** Mean training loss of the steps since the last evaluation; null before the first step. */
  train: number | null;
  heldOut: number;
}

/** Columns of one length, as uPlot wants them. Row 0 is the model before its first step. */
export interface Columns {
  step: number[];
  train: (number | null)[];
  smooth: (number | null)[];
  heldOut: (number | null)[];
}

export class Curve {
  readonly #train: (number | null)[] = [null];
  readonly #heldOut: (number | null)[] = [null];
  readonly evaluations: Evaluation[] = [];

  /** The last step that a loss is known of. */
  get lastStep(): number {
    return this.#train.length - 1;
  }

  /** Steps come in order, from 1, without a gap. */
  addStep(loss: number): void {
    this.#train.push(loss);
    this.#heldOut.push(null);
  }

  /** `step` is one that was added, or 0. */
  addHeldOut(step: number, loss: number): void {
    const since = (this.evaluations.at(-1)?.step ?? 0) + 1;
    const losses = this.#train.slice(since, step + 1).filter((value) => value !== null);
    const train = losses.length > 0 ? losses.reduce((sum, value) => sum + value, 0) / losses.length : null;
    this.#heldOut[step] = loss;
    this.evaluations.push({ step, train, heldOut: loss });
  }

  columns(smoothing: number): Columns {
    return {
      step: this.#train.map((_, step) => step),
      train: this.#train,
      smooth: smoothed(this.#train, smoothing),
      heldOut: this.#heldOut,
    };
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
