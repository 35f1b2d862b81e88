// Training data and prompts as the boundary has them: names known, every number checked, lengths agreeing. What passes
// here and is refused later is refused for what only the server knows, such as its vocabulary.

import type { WireChunk, WireDatum, WireTensor } from "./boundary.js";
import { type Check, choices, isRecord, refuse } from "./checks.js";
import { InvalidArgumentError } from "./errors.js";
import { float32sToBytes, int64sToBytes, list, targetsToBytes, tokensToBytes } from "./numbers.js";
import type { Datum, EncodedText, ModelInput, TensorInput } from "./types.js";

/** The service's names of what a loss function takes. */
const WIRE_NAMES: Record<string, string> = {
  targetTokens: "target_tokens",
  clipLowThreshold: "clip_low_threshold",
  clipHighThreshold: "clip_high_threshold",
  sequenceRatioMask: "sequence_ratio_mask",
};

/** These stand beside the targets, one number each. */
const PER_TARGET = ["weights", "advantages", "logprobs"];

const BYTES_PER_TOKEN = 4;

export function wireData(data: unknown, field = "data"): WireDatum[] {
  if (!Array.isArray(data)) refuse(field, data, "an array of datums");
  if (!data.length) refuse(field, data, "at least one datum");
  // By index, so that a hole in the array is seen as what it is.
  return Array.from(data, (datum: unknown, i) => wireDatum(datum, `${field}[${i}]`));
}

/** Token ids, or chunks of them. */
export const wirePrompt: Check<WireChunk[]> = (prompt, field) => {
  const chunks: WireChunk[] = isRecord(prompt)
    ? wireChunks(choices(prompt as object as ModelInput, { chunks: every }, field).chunks, `${field}.chunks`)
    : [{ type: "encoded_text", tokens: tokensToBytes(list(prompt, field), field) }];
  if (!lengthOf(chunks))
    throw new InvalidArgumentError(field, `${field} has no tokens: it takes at least one`);
  return chunks;
};

export function wireDatum(datum: unknown, field: string): WireDatum {
  const given = choices(datum as Datum, { modelInput: wirePrompt, lossFnInputs: every }, field);
  const modelInput = given.modelInput ?? refuse(`${field}.modelInput`, undefined, "the datum's token ids");
  const lossFnInputs = wireInputs(given.lossFnInputs, `${field}.lossFnInputs`, lengthOf(modelInput));
  return { modelInput, lossFnInputs };
}

function wireChunks(chunks: unknown, field: string): WireChunk[] {
  if (!Array.isArray(chunks)) refuse(field, chunks, "an array of chunks");
  return Array.from(chunks, (chunk: unknown, i) => {
    const at = `${field}[${i}]`;
    const { type, tokens } = choices(chunk as EncodedText, { type: every, tokens: every }, at);
    if (type !== "encoded_text") refuse(`${at}.type`, type, '"encoded_text"');
    return { type, tokens: tokensToBytes(list(tokens, `${at}.tokens`), `${at}.tokens`) };
  });
}

/** `length`: how many tokens the datum's input has. */
function wireInputs(given: unknown, field: string, length: number): Record<string, WireTensor> {
  if (!isRecord(given))
    refuse(field, given, "an object of arrays and tensors, such as { targetTokens, weights }");
  const inputs: Record<string, WireTensor> = {};
  const called: Record<string, string> = {};
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const wire = Object.hasOwn(WIRE_NAMES, name) ? (WIRE_NAMES[name] as string) : name;
    const at = `${field}.${name}`;
    if (Object.hasOwn(inputs, wire)) {
      throw new InvalidArgumentError(at, `${at} and ${called[wire]} are the same input: give one of them`);
    }
    called[wire] = at;
    inputs[wire] = wireTensor(value, at, wire);
  }
  const targets = inputs["target_tokens"];
  if (!targets) return inputs;
  const at = called["target_tokens"] as string;
  if (targets.shape[0] !== length) {
    throw new InvalidArgumentError(
      at,
      `${at} has ${targets.shape[0]} positions and the datum's modelInput ${length} tokens: each token has its target`,
    );
  }
  for (const name of PER_TARGET) {
    const input = inputs[name];
    if (input && product(input.shape) !== product(targets.shape)) {
      throw new InvalidArgumentError(
        called[name] as string,
        `${called[name]} has ${product(input.shape)} numbers and ${at} ${product(targets.shape)}: there is one for each`,
      );
    }
  }
  return inputs;
}

function wireTensor(value: unknown, field: string, wire: string): WireTensor {
  const tensor = isRecord(value)
    ? choices(value as object as TensorInput, { data: every, shape: every, dtype: every }, field)
    : undefined;
  const at = tensor ? `${field}.data` : field;
  const data = list(tensor ? tensor.data : value, at);
  const dtype =
    tensor?.dtype ?? (wire === "target_tokens" || data instanceof BigInt64Array ? "int64" : "float32");
  if (dtype !== "int64" && dtype !== "float32") refuse(`${field}.dtype`, dtype, '"int64" or "float32"');
  if (wire === "target_tokens" && dtype !== "int64")
    refuse(`${field}.dtype`, dtype, '"int64", as tokens are');
  const shape = tensor?.shape === undefined ? [data.length] : shapeOf(tensor.shape, `${field}.shape`);
  if (product(shape) !== data.length) {
    throw new InvalidArgumentError(
      `${field}.shape`,
      `${field}.shape [${shape.join(", ")}] holds ${product(shape)} numbers and data has ${data.length}`,
    );
  }
  const toBytes =
    dtype === "float32" ? float32sToBytes : wire === "target_tokens" ? targetsToBytes : int64sToBytes;
  return { dtype, shape, data: toBytes(data, at) };
}

function shapeOf(shape: unknown, field: string): number[] {
  const sizes = Array.from(list(shape, field));
  if (!sizes.length) refuse(field, shape, "at least one dimension");
  return sizes.map((size, i) =>
    Number.isSafeInteger(size) && (size as number) >= 0
      ? (size as number)
      : refuse(`${field}[${i}]`, size, "the size of a dimension, an integer"),
  );
}

function lengthOf(chunks: readonly WireChunk[]): number {
  return chunks.reduce((sum, { tokens }) => sum + tokens.length / BYTES_PER_TOKEN, 0);
}

function product(shape: readonly number[]): number {
  return shape.reduce((all, size) => all * size, 1);
}

/** Checked where it is used. */
function every(value: unknown): unknown {
  return value;
}
