// What becomes of calls that an instance died with, or that none can do: which the next one gets as they are, which the journal
// decides, and in what words the others are answered: what happened, what that means for the server, and what to do.

import type { Failure, JournaledMethod, ServiceMethods } from "./boundary.js";

/**
 * Calls that the next instance gets as they are: functions and runs go on, and of a run's commands one more changes nothing
 * but that there may be a checkpoint more.
 */
export const REPEATED: ReadonlySet<string> = new Set<keyof ServiceMethods>([
  "spawn",
  "run",
  "pauseRun",
  "resumeRun",
  "stopRun",
  "checkpointRun",
  "closeRun",
  "runs",
  "readRun",
]);

/** A call of these that the journal does not know was not sent. */
export const JOURNALED: ReadonlySet<string> = new Set<JournaledMethod | "result">([
  "forward",
  "forwardBackward",
  "optimStep",
  "saveState",
  "loadState",
  "saveWeightsForSampler",
  "saveWeightsAndGetSamplingClient",
  "result",
]);

export const CLIENT_LOST = "the WebAssembly instance that had this client died";
const NEW_CLIENT =
  "Make a new client: createTrainingClientFromStateWithOptimizer() with the last checkpoint, or createSamplingClient()";
const LAST = "No other instance is made: reload the page, or start the process again";

/** What there is when an instance has died. */
export type Left = "works on" | "client lost" | "nothing";

export function closed({ method, client }: { method: string; client: number }): Failure {
  const [what, next] = client ? ["client", "make a new one"] : ["service", "make a new ServiceClient"];
  return {
    kind: "closed",
    message: `${method} was not sent, since its ${what} is closed: ${next}`,
    outcome: "not_sent",
    retryable: false,
  };
}

/** `known`: the journal may have it, and then it goes on. */
export function givenUp(method: string, known: boolean): Failure {
  return {
    kind: "aborted",
    message: `${method} was given up while no instance had it`,
    outcome: known ? "unknown" : "not_sent",
    retryable: !known,
  };
}

/** It needs the second file, which can't be had for this reason. */
export function without(message: string): Failure {
  return { kind: "init_failed", message, outcome: "not_sent", retryable: true };
}

export function lost(method: string, happened: string, outcome: "not_sent" | "unknown", left: Left): Failure {
  const sent = outcome === "unknown" ? "The server may have got this call" : "This call was not sent";
  const next = { "works on": "Call it again", "client lost": NEW_CLIENT, nothing: LAST }[left];
  return {
    kind: "instance_lost",
    message: `${method}: ${happened}. ${sent}. ${next}`,
    outcome,
    // What a service is asked for itself may be asked again: it reads, or makes something that is in nobody's way. Of a
    // client that works on, what the journal does not know was not sent, or changes nothing.
    retryable: left === "works on",
  };
}
