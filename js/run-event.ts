// A run's events as the page gets them, as `results.ts` has it for the answers of calls.

import { float32s, int32s } from "./numbers.js";
import type { WireRunEvent } from "./run-boundary.js";
import type { RunEvent } from "./run-types.js";
import type { Label } from "./types.js";

export function runEvent(event: WireRunEvent): RunEvent {
  if (event.type === "step") {
    const { value, ...rest } = event;
    return { ...rest, ...(value !== undefined && { value: JSON.parse(value) as Label }) };
  }
  if (event.type === "sample") {
    const { tokens, logprobs, ...rest } = event;
    return { ...rest, tokens: int32s(tokens), ...(logprobs && { logprobs: float32s(logprobs) }) };
  }
  return event;
}
