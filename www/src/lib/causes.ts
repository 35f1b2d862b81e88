// Why a run isn't moving, in words, and what a person does about it. The run names one cause; each of them has its line here.
import type { CauseKind, RunCause } from "tinkex";

/** What ends the cause, where a person can. */
export type Way =
  | "wait" // it ends by itself
  | "resume"
  | "checkpoint" // resume from the last checkpoint
  | "server" // another key or server
  | "data" // the data set that it was started with
  | "new"; // another run

interface Words {
  /** Goes on behind “Paused: ” and stands alone as well. */
  what: string;
  /** Follows “Ends when ”. */
  ends: string;
  ways: readonly Way[];
}

const words: Record<CauseKind, Words> = {
  starting: { what: "starting", ends: "the server has answered", ways: ["wait"] },
  waiting_for_server: { what: "waiting for the server", ends: "the server has answered", ways: ["wait"] },
  waiting_for_data: {
    what: "waiting for data",
    ends: "this page has read the next batch",
    ways: ["wait"],
  },
  waiting_for_step: {
    what: "the step’s function is at work",
    ends: "it is done, or has taken too long",
    ways: ["wait"],
  },
  stopping: { what: "stopping", ends: "the steps under way and a last checkpoint are in", ways: ["wait"] },
  recovering: {
    what: "the server has lost the model",
    ends: "there is a new model from the last checkpoint",
    ways: ["wait"],
  },
  paused_by_user: { what: "paused by you", ends: "you resume it", ways: ["resume"] },
  needs_data: {
    what: "no open page has its data",
    ends: "it is opened in a page that has its data set",
    ways: ["data"],
  },
  needs_step: {
    what: "no open page has its step function",
    ends: "the page that started it is opened",
    ways: ["data"],
  },
  needs_owner: { what: "no page has it open", ends: "it is opened", ways: ["wait"] },
  data_changed: {
    what: "the data set has changed",
    ends: "it is opened with the data that it was started with",
    ways: ["new"],
  },
  data_failed: {
    what: "the page’s data could not be read",
    ends: "you resume it, and the batch is read again",
    ways: ["resume"],
  },
  function_changed: {
    what: "the step function has changed",
    ends: "it is opened with the function that it was started with",
    ways: ["new"],
  },
  step_mismatch: {
    what: "the step did something else the second time",
    ends: "you resume it",
    ways: ["resume"],
  },
  step_failed: {
    what: "a step has failed",
    ends: "you resume it, and the step is run again",
    ways: ["resume"],
  },
  step_timed_out: {
    what: "a step has taken too long",
    ends: "you resume it, and the step is run again",
    ways: ["resume"],
  },
  loss_not_finite: {
    what: "training diverged: the loss is not a number",
    ends: "you go back to the last checkpoint. With the same learning rate it may diverge again",
    ways: ["checkpoint", "new"],
  },
  model_gone: {
    what: "the server has lost the model",
    ends: "you resume it, with a new model from the last checkpoint",
    ways: ["checkpoint"],
  },
  checkpoint_gone: {
    what: "the server has lost the model and its checkpoints",
    ends: "the server has them back and you resume it; else make another run",
    ways: ["resume", "new"],
  },
  not_let_in: {
    what: "the server refused the key",
    ends: "you connect with a key that it knows",
    ways: ["server", "resume"],
  },
  refused: {
    what: "the server refused a step",
    ends: "you change the settings in another run, or go back to the last checkpoint",
    ways: ["checkpoint", "new"],
  },
  storage: {
    what: "this browser can’t write the run down",
    ends: "there is room on this machine and you resume it",
    ways: ["resume"],
  },
  fenced: { what: "another page has taken it over", ends: "that page is closed", ways: ["wait"] },
  crashed: {
    what: "the page’s client has crashed",
    ends: "you resume it, and it goes on from what is kept",
    ways: ["resume"],
  },
};

export function whatHolds(cause: RunCause): string {
  return words[cause.kind].what;
}

export function whatEnds(cause: RunCause): string {
  return words[cause.kind].ends;
}

export function waysOut(cause: RunCause): readonly Way[] {
  return words[cause.kind].ways;
}

/** Whether it is nothing but the time that each step takes. */
export function isUsual({ kind }: RunCause): boolean {
  return kind === "waiting_for_server" || kind === "waiting_for_data" || kind === "waiting_for_step";
}
