// What the console makes of a data set and of what is typed, before anything is sent.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import { root } from "../../scripts/paths.mjs";

/** A token per character, so that a test can count them; the names of special tokens are one each. */
const special = { "<|user|>": 1001, "<|assistant|>": 1002, "<|end|>": 1003 };
const codec = {
  encode: (text) =>
    (text.match(/<\|\w+\|>|[^]/g) ?? []).map((piece) => special[piece] ?? piece.codePointAt(0)),
  decode: (tokens) => [...tokens].map((token) => (token > 1000 ? "" : String.fromCodePoint(token))).join(""),
  special: (name) => special[name],
};

const jsonl = (count, answer = "yes") =>
  Array.from({ length: count }, (_, index) => JSON.stringify({ prompt: `q${index}`, answer })).join("\n");
const texts = (changes = {}) => ({ ...settings.initialTexts(), ...changes });

let folder, data, settings, curve;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "tinkex-console-"));
  const bundle = async (name) => {
    const outfile = join(folder, `${name}.mjs`);
    await build({
      entryPoints: [join(root, `www/src/lib/${name}.ts`)],
      bundle: true,
      format: "esm",
      outfile,
      logLevel: "error",
    });
    return import(pathToFileURL(outfile));
  };
  [data, settings, curve] = await Promise.all(["data", "settings", "curve"].map(bundle));
});
after(() => rmSync(folder, { recursive: true, force: true }));

describe("prompts and answers", () => {
  test("only the answer and the mark of its end count in the loss", () => {
    const { train } = data.readAnswers(jsonl(20), codec);
    const { tokens, weights } = train[0];
    assert.equal(weights.length, tokens.length - 1, "a weight for each predicted token");
    const counted = tokens.slice(1).filter((_, index) => weights[index] === 1);
    assert.deepEqual(counted, [...codec.encode("yes"), special["<|end|>"]]);
  });

  test("the target at each position is the next token", () => {
    const { train } = data.readAnswers(jsonl(20), codec);
    const { modelInput, lossFnInputs } = data.toDatum(train[0]);
    assert.deepEqual(lossFnInputs.targetTokens.slice(0, -1), modelInput.slice(1));
    assert.equal(lossFnInputs.weights.length, modelInput.length);
  });

  test("what is held out is never trained on", () => {
    const { train, heldOut } = data.readAnswers(jsonl(50), codec);
    const seen = new Set(train.map(({ tokens }) => tokens.join()));
    assert.equal(heldOut.length, 5);
    assert.equal(train.length, 45);
    for (const { tokens } of heldOut) assert.ok(!seen.has(tokens.join()));
  });

  test("a line that is no JSON is named, with what it should be", () => {
    const broken = `${jsonl(20)}\n{"prompt": "half`;
    assert.throws(() => data.readAnswers(broken, codec), /Line 21 is not JSON.*"prompt".*"answer"/);
  });

  test("a line without an answer is named", () => {
    for (const line of ['{"prompt": "only"}', '{"prompt": 1, "answer": "x"}', "null", "[]"])
      assert.throws(() => data.readAnswers(`${line}\n${jsonl(20)}`, codec), /Line 1 needs/, line);
  });

  test("an example that is too long is left out, and counted", () => {
    const long = JSON.stringify({ prompt: "q", answer: "x".repeat(100) });
    const prepared = data.prepare(data.readAnswers(`${long}\n${jsonl(29)}`, codec), 64);
    assert.equal(prepared.leftOut, 1);
    assert.ok(prepared.longest > 100);
    assert.ok(prepared.train.every(({ tokens }) => tokens.length <= 65));
  });

  test("an example of just the length allowed is used", () => {
    const corpus = data.readAnswers(jsonl(20), codec);
    const length = corpus.train[0].tokens.length - 1;
    assert.ok(data.prepare(corpus, length).train.length > 0);
    assert.equal(data.prepare(corpus, length - 1).train.length, 0);
  });

  test("a data set too small to hold anything out is refused", () => {
    assert.throws(() => data.readAnswers(jsonl(5), codec), /has 5 lines and needs at least 20/);
  });
});

describe("plain text", () => {
  const text = Array.from({ length: 200 }, (_, index) => `line number ${index} of the whole text`).join("\n");

  test("is cut into windows that share no prediction, and all of them count", () => {
    const corpus = data.readText(text, codec);
    const { train } = data.prepare(corpus, 64);
    assert.ok(train.every(({ tokens }) => tokens.length === 65));
    const predicted = train.flatMap(({ tokens }) => tokens.slice(1));
    assert.deepEqual(predicted, corpus.train.slice(1, predicted.length + 1));
    assert.ok(train.every(({ weights }) => weights.every((weight) => weight === 1)));
  });

  test("its end is held out, and samples begin with lines from there", () => {
    const { train, heldOut, prompts } = data.readText(text, codec);
    assert.equal(train.length + heldOut.length, text.length);
    assert.equal(prompts.length, 3);
    assert.ok(prompts.every((prompt) => codec.decode(heldOut).includes(prompt.text)));
  });

  test("a text of one line is refused, as nothing can be held out", () => {
    assert.throws(() => data.readText("just one line", codec), /several lines/);
  });
});

describe("settings", () => {
  const problemOf = (name, value, context) => {
    const reading = settings.readSettings(texts({ [name]: value }), context);
    return reading.valid ? undefined : reading.problems[name];
  };

  test("the ones that the form begins with are valid", () => {
    assert.equal(settings.readSettings(settings.initialTexts(), 512).valid, true);
  });

  test("numbers are taken as they are typed", () => {
    const reading = settings.readSettings(texts({ learningRate: " 1e-3 ", steps: "50" }));
    assert.equal(reading.settings.learningRate, 0.001);
    assert.equal(reading.settings.steps, 50);
  });

  test("what is no number in its bounds is refused with the bounds", () => {
    assert.match(problemOf("steps", ""), /Enter a number from 1 to/);
    assert.match(problemOf("steps", "0"), /from 1 to/);
    assert.match(problemOf("steps", "2.5"), /whole number/);
    assert.match(problemOf("steps", "Infinity"), /not a number/);
    assert.match(problemOf("learningRate", "abc"), /“abc” is not a number/);
    assert.match(problemOf("learningRate", "-1"), /from 0\.000001 to 0\.1/);
  });

  test("a warm-up can't be longer than the run", () => {
    assert.match(problemOf("warmupSteps", "301"), /The run has 300 steps/);
    assert.equal(problemOf("warmupSteps", "300"), undefined);
  });

  test("a sequence can't be longer than what the model reads", () => {
    assert.match(problemOf("sequenceLength", "300", 256), /256 tokens at most/);
    assert.equal(problemOf("sequenceLength", "256", 256), undefined);
  });
});

describe("the curve", () => {
  test("smoothing is not pulled towards zero at its start, and keeps a constant", () => {
    assert.deepEqual(
      curve.smoothed([null, 4, 4, 4], 0.9).map((value) => value && Number(value.toFixed(9))),
      [null, 4, 4, 4],
    );
  });

  test("without smoothing the line is what was measured", () => {
    assert.deepEqual(curve.smoothed([null, 3, 1, 2], 0), [null, 3, 1, 2]);
  });

  test("a row of the table has the mean training loss since the row before", () => {
    const losses = new curve.Curve();
    losses.addHeldOut(0, 5);
    [4, 2].forEach((loss, index) => losses.addStep(index + 1, loss));
    losses.addHeldOut(2, 3.5);
    losses.addStep(3, 1);
    losses.addHeldOut(3, 1.5);
    assert.deepEqual(losses.evaluations(), [
      { step: 0, train: null, heldOut: 5 },
      { step: 2, train: 3, heldOut: 3.5 },
      { step: 3, train: 1, heldOut: 1.5 },
    ]);
    assert.deepEqual(losses.columns(0).heldOut, [5, null, 3.5, 1.5]);
  });

  test("what was lost behind a seam is a line of its own, which begins where both part", () => {
    const losses = parted();
    const { step, train, lost } = losses.columns(0);
    assert.deepEqual(step, [0, 1, 2, 3, 4]);
    assert.deepEqual(train, [null, 5, 4, 3.5, null]);
    assert.deepEqual(lost, [[null, null, 4, 3, 2]]);
    assert.equal(losses.lastStep, 3);
    assert.equal(losses.farthest, 4);
  });

  test("evaluations behind a seam count no more, until they are made again", () => {
    const losses = parted();
    assert.deepEqual(losses.heldOut, { first: null, last: 6 });
    losses.addHeldOut(3, 3);
    assert.deepEqual(losses.heldOut, { first: 6, last: 3 });
    assert.deepEqual(losses.evaluations(), [
      { step: 0, train: null, heldOut: 6 },
      { step: 3, train: (5 + 4 + 3.5) / 3, heldOut: 3 },
    ]);
  });

  test("a seam that is told twice is one", () => {
    const losses = parted();
    losses.addSeam(seam);
    assert.equal(losses.seams.length, 1);
    assert.equal(losses.lastStep, 3);
  });

  const seam = { step: 2, reached: 4, incarnation: 2, reason: "gone", fromCheckpoint: true, at: 0 };

  /** Four steps, two of them lost, and one made again. */
  function parted() {
    const losses = new curve.Curve();
    losses.addHeldOut(0, 6);
    [5, 4, 3, 2].forEach((loss, index) => losses.addStep(index + 1, loss));
    losses.addHeldOut(4, 2);
    losses.addSeam(seam);
    losses.addStep(3, 3.5);
    return losses;
  }
});
