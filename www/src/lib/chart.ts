// Sets up uPlot for a loss curve: what each line looks like, how far the axes go. Colours are asked for at each drawing,
// so that a change of theme needs no more than another drawing.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Columns } from "./curve.ts";

/** Colours by the name of their custom property, as `--train`. */
export type Ink = (name: string) => string;

export interface ChartOptions {
  width: number;
  height: number;
  ink: Ink;
  /** How far the x axis goes, in steps. */
  lastStep: () => number;
  /** How many lines of lost steps there are. */
  lost: number;
  /** The row under the cursor, or null when it left. */
  onCursor: (row: number | null) => void;
  /** It was drawn anew: places on it may have changed. */
  onDraw: () => void;
}

export function lossChart(target: HTMLElement, options: ChartOptions): uPlot {
  const { ink } = options;
  const axis: uPlot.Axis = {
    stroke: () => ink("--ink-soft"),
    font: "12px system-ui, sans-serif",
    grid: { stroke: () => ink("--grid"), width: 1 },
    ticks: { show: false },
  };
  return new uPlot(
    {
      width: options.width,
      height: options.height,
      padding: [8, 12, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: false, y: false },
        points: { size: 7, stroke: () => ink("--surface"), width: 2 },
      },
      scales: {
        x: { time: false, range: () => [0, Math.max(1, options.lastStep())] },
        y: { range: (_, min, max) => yRange(min, max) },
      },
      axes: [
        {
          ...axis,
          size: 28,
          gap: 6,
          space: 64,
          incrs: [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000],
        },
        {
          ...axis,
          size: 44,
          gap: 6,
          space: 36,
          values: (_, splits, __, ___, gap) => splits.map((value) => value.toFixed(gap < 0.1 ? 2 : 1)),
        },
      ],
      series: [
        {},
        { stroke: () => ink("--train-raw"), width: 1, points: { show: false } },
        { stroke: () => ink("--train"), width: 2, points: { show: false } },
        {
          stroke: () => ink("--held-out"),
          width: 2,
          dash: [6, 4],
          spanGaps: true,
          points: { show: true, size: 6, fill: () => ink("--held-out"), stroke: () => ink("--held-out") },
        },
        ...Array.from({ length: options.lost }, (): uPlot.Series => ({
          stroke: () => ink("--lost"),
          width: 1.5,
          dash: [2, 3],
          points: { show: false },
        })),
      ],
      hooks: { setCursor: [(chart) => options.onCursor(chart.cursor.idx ?? null)], draw: [options.onDraw] },
    },
    undefined,
    target,
  );
}

/** In uPlot's order of rows. */
export function rows({ step, train, smooth, heldOut, lost }: Columns): uPlot.AlignedData {
  return [step, train, smooth, heldOut, ...lost];
}

/** Where a step is, in CSS pixels from the chart's left edge. */
export function placeOf(chart: uPlot, step: number): number {
  return chart.valToPos(step, "x") + chart.bbox.left / devicePixelRatio;
}

/** A little air above and below, to round numbers, and never under 0: a loss isn't. Before any value: room for one. */
function yRange(min: number | null, max: number | null): [number, number] {
  if (min === null || max === null) return [0, 5];
  const air = Math.max((max - min) * 0.1, 0.05);
  const [low, high] = uPlot.rangeNum(min - air, max + air, 0, true);
  return [Math.max(0, low ?? 0), high ?? 5];
}
