// From a data set's file to sequences of tokens: read, split off what is held out, cut to length.
import type { Datum } from "tinkex";
import type { TextCodec } from "./tokenizer.ts";
import { answerText, endOfAnswer, promptText } from "./turns.ts";

/** One sequence: `n` tokens, and for each of the `n` − 1 that are predicted, whether it counts in the loss. */
export interface Sequence {
  tokens: number[];
  /** `weights[i]` belongs to the prediction of `tokens[i + 1]`: 1 counts, 0 doesn't. */
  weights: number[];
}

/** What the model is asked to go on with, before and after training. Taken from held-out data. */
export interface SamplePrompt {
  text: string;
  tokens: number[];
  /** What the data set says should come, where it says so. */
  expected?: string;
}

/** How to sample so that the answer is one: a document goes on for ever, an answer ends. */
export interface SampleStyle {
  maxTokens: number;
  temperature: number;
  stop?: number[];
}

/** A data set in tokens, before it is cut to a sequence length. */
export type Corpus =
  | { kind: "text"; train: number[]; heldOut: number[]; prompts: SamplePrompt[]; style: SampleStyle }
  | { kind: "answers"; train: Sequence[]; heldOut: Sequence[]; prompts: SamplePrompt[]; style: SampleStyle };

/** Ready to train on. */
export interface Prepared {
  train: Sequence[];
  heldOut: Sequence[];
  /** Sequences that are longer than the length allowed, and so not used. */
  leftOut: number;
  /** Tokens of the longest sequence that there is, left out or not. */
  longest: number;
}

/** A file that isn't what it should be. The message names the line and the fix. */
export class DataError extends Error {
  override name = "DataError";
}

/** The last part of a text is held out: every tenth of it would leak its neighbours. */
const HELD_OUT_SHARE = 0.1;
/** Of prompts and answers, each tenth line is held out. */
const HELD_OUT_EVERY = 10;
/** Evaluation looks at so many sequences at most, so that it stays a small part of the run. */
const HELD_OUT_LIMIT = 32;
/** Samples are shown of so many prompts. */
const PROMPTS = 3;

/** Plain text: each token counts. */
export function readText(text: string, codec: TextCodec): Corpus {
  const cut = text.lastIndexOf("\n", Math.floor(text.length * (1 - HELD_OUT_SHARE))) + 1;
  const heldOutText = text.slice(cut);
  if (cut === 0 || heldOutText.trim() === "")
    throw new DataError("The text is too short. It needs several lines, so that some can be held out.");
  return {
    kind: "text",
    train: codec.encode(text.slice(0, cut)),
    heldOut: codec.encode(heldOutText),
    prompts: openings(heldOutText, codec),
    style: { maxTokens: 64, temperature: 0.8 },
  };
}

/** The first halves of a few long lines, from different places. */
function openings(text: string, codec: TextCodec): SamplePrompt[] {
  const lines = text.split("\n").filter((line) => line.trim().split(/\s+/).length >= 5);
  return spread(lines, PROMPTS).map((line) => {
    const words = line.trim().split(/\s+/);
    const opening = words.slice(0, 4).join(" ");
    return { text: opening, tokens: codec.encode(opening) };
  });
}

/** One `{"prompt", "answer"}` a line. Only the answer counts. */
export function readAnswers(jsonl: string, codec: TextCodec): Corpus {
  const examples = jsonl
    .split("\n")
    .map((line, index) => ({ line: line.trim(), number: index + 1 }))
    .filter(({ line }) => line !== "")
    .map(({ line, number }) => readExample(line, number));
  if (examples.length < 2 * HELD_OUT_EVERY)
    throw new DataError(
      `The data set has ${examples.length} lines and needs at least ${2 * HELD_OUT_EVERY}.`,
    );
  const isHeldOut = (_: unknown, index: number) => index % HELD_OUT_EVERY === HELD_OUT_EVERY - 1;
  const heldOut = examples.filter(isHeldOut);
  const end = codec.special(endOfAnswer);
  const toSequence = (example: Example) => answerSequence(example, codec);
  return {
    kind: "answers",
    train: examples.filter((example, index) => !isHeldOut(example, index)).map(toSequence),
    heldOut: heldOut.map(toSequence),
    prompts: spread(heldOut, PROMPTS).map(({ prompt, answer }) => ({
      text: prompt,
      tokens: codec.encode(promptText(prompt)),
      expected: answer,
    })),
    style: { maxTokens: 64, temperature: 0, ...(end === undefined ? {} : { stop: [end] }) },
  };
}

interface Example {
  prompt: string;
  answer: string;
}

function readExample(line: string, number: number): Example {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new DataError(`Line ${number} is not JSON. Each line must be {"prompt": "…", "answer": "…"}.`);
  }
  const { prompt, answer } = (value ?? {}) as Partial<Example>;
  if (typeof prompt !== "string" || typeof answer !== "string")
    throw new DataError(`Line ${number} needs a "prompt" and an "answer", both of them text.`);
  return { prompt, answer };
}

function answerSequence({ prompt, answer }: Example, codec: TextCodec): Sequence {
  const asked = codec.encode(promptText(prompt));
  const answered = codec.encode(answerText(answer));
  return {
    tokens: [...asked, ...answered],
    // The first token is predicted by nothing, so the prompt has one weight fewer than tokens.
    weights: [...asked.slice(1).map(() => 0), ...answered.map(() => 1)],
  };
}

/** Cuts a text into windows, and leaves out the answers that don't fit. `length`: tokens read at once. */
export function prepare(corpus: Corpus, length: number): Prepared {
  if (corpus.kind === "text") {
    const train = windows(corpus.train, length);
    const heldOut = windows(corpus.heldOut, length);
    return {
      train,
      heldOut: spread(heldOut, HELD_OUT_LIMIT),
      leftOut: 0,
      longest: corpus.train.length,
    };
  }
  // A sequence's last token is only predicted, never read.
  const fits = (sequence: Sequence) => sequence.tokens.length - 1 <= length;
  const all = [...corpus.train, ...corpus.heldOut];
  return {
    train: corpus.train.filter(fits),
    heldOut: spread(corpus.heldOut.filter(fits), HELD_OUT_LIMIT),
    leftOut: all.filter((sequence) => !fits(sequence)).length,
    longest: all.reduce((most, sequence) => Math.max(most, sequence.tokens.length - 1), 0),
  };
}

/** Windows of `length` tokens read and as many predicted, side by side. A rest that is shorter is left over. */
function windows(tokens: readonly number[], length: number): Sequence[] {
  const weights = Array<number>(length).fill(1);
  const cut: Sequence[] = [];
  for (let start = 0; start + length < tokens.length; start += length)
    cut.push({ tokens: tokens.slice(start, start + length + 1), weights });
  return cut;
}

/** `count` of the items, evenly spaced; all of them when there are no more. */
function spread<Item>(items: readonly Item[], count: number): Item[] {
  if (items.length <= count) return [...items];
  return Array.from(
    { length: count },
    (_, index) => items[Math.floor((index * items.length) / count)] as Item,
  );
}

/** A stretch of an example, and whether the loss counts it. */
export interface Stretch {
  text: string;
  counts: boolean;
}

/** Lines of a text that are enough to see what it is, and characters, should a line be a whole paragraph. */
const GLIMPSE = { lines: 3, characters: 160 };

/** The first example as the model meets it. */
export function glimpse(corpus: Corpus, codec: TextCodec): Stretch[] {
  if (corpus.kind === "text") {
    const beginning = codec.decode(corpus.train.slice(0, 2 * GLIMPSE.characters));
    const lines = beginning.split("\n").filter((line) => line.trim() !== "");
    const text = lines.slice(0, GLIMPSE.lines).join("\n").slice(0, GLIMPSE.characters);
    return [{ text: `${text}…`, counts: true }];
  }
  const { tokens, weights } = corpus.train[0] as Sequence;
  const asked = weights.filter((weight) => weight === 0).length + 1;
  return [
    { text: codec.decode(tokens.slice(0, asked)), counts: false },
    { text: codec.decode(tokens.slice(asked)), counts: true },
  ];
}

/** As the service takes it: the target at each position is the next token. */
export function toDatum(sequence: Sequence): Datum {
  return {
    modelInput: sequence.tokens.slice(0, -1),
    lossFnInputs: { targetTokens: sequence.tokens.slice(1), weights: sequence.weights },
  };
}

/** Tokens that the model reads in training on these. */
export function tokensOf(sequences: readonly Sequence[]): number {
  return sequences.reduce((sum, sequence) => sum + sequence.tokens.length - 1, 0);
}
