// A model to sample from.

import type { SamplingMethods, WireSample } from "./boundary.js";
import { boolean, type Check, choices, integer, number, refuse, signal, texts } from "./checks.js";
import { wirePrompt } from "./data.js";
import { Handle, type Link } from "./handle.js";
import { float32s, LAST_TOKEN } from "./numbers.js";
import { sampleOutput } from "./results.js";
import type { CallOptions, Prompt, SampleOptions, SampleOutput, SamplingParams } from "./types.js";

const MOST = 2 ** 32 - 1;

/**
 * Made by `ServiceClient` or `TrainingClient`. Samples change nothing: their order does not matter, and they run side by
 * side.
 *
 * Every method rejects with `InvalidArgumentError` before anything is sent where an argument can't be right, and with
 * another `TinkexError` where the call fails.
 */
export class SamplingClient implements AsyncDisposable {
  /** The service's name for this sampler. */
  readonly samplingSessionId: string;
  readonly #handle: Handle<SamplingMethods>;

  /** @internal */
  constructor(link: Link, made: { client: number; samplingSessionId: string }) {
    this.samplingSessionId = made.samplingSessionId;
    this.#handle = new Handle(link, "SamplingClient", made.client);
  }

  /** Goes on from the prompt, `numSamples` times. */
  async sample(prompt: Prompt, options: SampleOptions = {}): Promise<SampleOutput> {
    const { args, signal } = sampleArgs(prompt, options);
    return sampleOutput(await this.#handle.call("sample", args, signal));
  }

  /** The log-probability of each token of the prompt; the first is NaN, as nothing comes before it. */
  async computeLogprobs(prompt: Prompt, options: CallOptions = {}): Promise<Float32Array> {
    const { signal: given } = choices(options, { signal });
    const args = { prompt: wirePrompt(prompt, "prompt") };
    return float32s((await this.#handle.call("computeLogprobs", args, given)).logprobs);
  }

  /** Lets the sampler go. Calls that wait reject with `ClosedError`. */
  async close(): Promise<void> {
    await this.#handle.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

export function sampleArgs(
  prompt: Prompt,
  options: SampleOptions,
): { args: WireSample; signal: AbortSignal | undefined } {
  const { signal: given, ...rest } = choices(options, {
    numSamples: integer(1, MOST),
    samplingParams,
    includePromptLogprobs: boolean,
    topkPromptLogprobs: integer(0, MOST),
    signal,
  });
  const args = {
    prompt: wirePrompt(prompt, "prompt"),
    numSamples: 1,
    samplingParams: {},
    includePromptLogprobs: false,
    topkPromptLogprobs: 0,
    ...rest,
  };
  return { args, signal: given };
}

export const samplingParams = (value: unknown, field: string) =>
  choices(
    value as SamplingParams,
    {
      maxTokens: integer(1, MOST),
      seed: integer(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER),
      stop,
      temperature: number(0),
      topK,
      topP: number(0, 1),
    },
    field,
  );

const stop: Check<string | string[] | number[]> = (value, field) => {
  if (typeof value === "string") return texts([value], field)[0] as string;
  if (!Array.isArray(value)) refuse(field, value, "a string, an array of strings, or an array of token ids");
  if (typeof value[0] === "string") return texts(value, field);
  return value.map((id, i) => integer(0, LAST_TOKEN)(id, `${field}[${i}]`));
};

const topK: Check<number> = (value, field) => (value === -1 ? value : integer(1, LAST_TOKEN)(value, field));
