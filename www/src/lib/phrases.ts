// A run's state as a sentence.
import { whatEnds, whatHolds, isUsual } from "./causes.ts";
import { count, counted, when } from "./format.ts";
import type { Run } from "./run.svelte.ts";

/**
 * What the run is doing, for whoever looks at it or has it read out: it follows the word for its state. It changes with the
 * state, never with each step.
 */
export function describe(run: Run): string {
  const { status, command } = run;
  if (!status) return run.problem ? "It can’t be opened." : "Opening the run.";
  const { state, step, steps, cause } = status;
  if (command === "stop" || cause?.kind === "stopping") return "and stopping after the steps under way.";
  switch (state) {
    case "running":
      if (command === "pause") return "and pausing after the steps under way.";
      if (cause?.kind === "starting") return "and waiting for the server’s first answer.";
      if (cause && !isUsual(cause))
        return `but waits: ${whatHolds(cause)}. It goes on when ${whatEnds(cause)}.`;
      if (step === 0) return "to measure the model as it is.";
      if (step === steps) return "to its end: a last evaluation, samples and a checkpoint.";
      return steps === undefined ? "" : `towards step ${count(steps)}.`;
    case "paused":
      if (!cause) return "until you resume it.";
      if (cause.kind === "paused_by_user") return `by you since ${when(cause.since)}, until you resume it.`;
      return `since ${when(cause.since)}: ${whatHolds(cause)}.`;
    case "completed":
    case "stopped":
      return `after ${counted(step, "step")}.`;
  }
}

/** Who has the run, as this tab sees it. */
export function whoRuns({ status }: Run): string {
  if (!status || status.role === "none") return "";
  if (status.role === "owner") return "Runs in this tab";
  const kind = status.cause?.kind;
  const nobody = kind === "needs_owner" || kind === "needs_data" || kind === "needs_step";
  return nobody ? "No tab runs it" : "Runs in another tab, followed here";
}

/** With a capital and a full stop. */
export function sentence(words: string): string {
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}${words.endsWith(".") ? "" : "."}`;
}
