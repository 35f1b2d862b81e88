// What becomes of training data and prompts: the bytes that cross, and the field that is named when they can't.
import assert from "node:assert/strict";
import { test } from "node:test";
import { trainingCopy } from "./stub.mjs";

const copy = await trainingCopy();
const { service, training, instance, tinkex } = copy;

async function samplerOf() {
  const made = service.createSamplingClient({ baseModel: "model" });
  instance.settle({ client: 9, samplingSessionId: "s" });
  return made;
}
const sampler = await samplerOf();

/** What crosses for a call; its answer is of no matter. */
function sent(call) {
  call.catch(() => {});
  return instance.lastCall.args;
}

function sentDatum(lossFnInputs, modelInput = [1, 2]) {
  return sent(training.forwardBackward([{ modelInput, lossFnInputs }], "cross_entropy")).data[0];
}

/** Asserts that the call rejects, naming the field, and that nothing crossed. */
async function refused(makeCall, field, words = /./) {
  const before = instance.calls.length;
  const call = makeCall();
  assert.ok(call instanceof Promise, "it never throws at once");
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof tinkex.InvalidArgumentError, String(error));
    assert.equal(error.field, field);
    assert.match(error.message, words);
    assert.equal(error.outcome, "not_sent");
    return true;
  });
  assert.equal(instance.calls.length, before, "nothing is sent");
}

const refusedData = (data, field, words) =>
  refused(() => training.forwardBackward(data, "cross_entropy"), field, words);

const datum = (lossFnInputs, modelInput = [1, 2]) => [{ modelInput, lossFnInputs }];

const int32 = (...values) => new Uint8Array(Int32Array.from(values).buffer);
const float32 = (...values) => new Uint8Array(Float32Array.from(values).buffer);
const int64 = (...values) => new Uint8Array(BigInt64Array.from(values, BigInt).buffer);

test("arrays cross as little-endian bytes under the service's names", () => {
  const { modelInput, lossFnInputs } = sentDatum({
    targetTokens: [2, 2 ** 31 - 1],
    weights: [0.1, 1],
    clipLowThreshold: [0.5, 0.5],
    my_own: [3, 4],
  });
  assert.deepEqual(modelInput, [{ type: "encoded_text", tokens: int32(1, 2) }]);
  assert.deepEqual(lossFnInputs, {
    target_tokens: { dtype: "int64", shape: [2], data: int64(2, 2 ** 31 - 1) },
    weights: { dtype: "float32", shape: [2], data: float32(0.1, 1) },
    clip_low_threshold: { dtype: "float32", shape: [2], data: float32(0.5, 0.5) },
    my_own: { dtype: "float32", shape: [2], data: float32(3, 4) },
  });
});

test("typed arrays of every kind are taken, and cross the same", () => {
  const kinds = [
    Int8Array,
    Uint8Array,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    Float32Array,
    Float64Array,
  ];
  for (const Kind of kinds) {
    const given = sentDatum(
      { targetTokens: Kind.from([2, 3]), weights: Kind.from([0, 1]) },
      Kind.from([1, 2]),
    );
    assert.deepEqual(given.modelInput[0].tokens, int32(1, 2), Kind.name);
    assert.deepEqual(given.lossFnInputs.target_tokens.data, int64(2, 3), Kind.name);
    assert.deepEqual(given.lossFnInputs.weights.data, float32(0, 1), Kind.name);
  }
  const given = sentDatum({ targetTokens: BigInt64Array.of(2n, 3n) }, BigInt64Array.of(1n, 2n));
  assert.deepEqual(given.modelInput[0].tokens, int32(1, 2));
  assert.deepEqual(given.lossFnInputs.target_tokens.data, int64(2, 3));
});

test("64-bit integers cross exactly", () => {
  const numbers = [0, -1, 2 ** 31, -(2 ** 31) - 1, 2 ** 32, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER];
  const exact = [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n)];
  for (const values of [numbers, exact]) {
    const { extra } = sentDatum({ extra: { data: values, dtype: "int64" } }).lossFnInputs;
    assert.deepEqual(extra, { dtype: "int64", shape: [values.length], data: int64(...values) });
  }
  assert.equal(sentDatum({ extra: BigInt64Array.of(5n) }).lossFnInputs.extra.dtype, "int64");
});

test("a caller may change its array right after the call", () => {
  const tokens = Int32Array.of(1, 2);
  const weights = Float32Array.of(1, 1);
  const args = sentDatum({ targetTokens: tokens, weights }, tokens);
  tokens.fill(7);
  weights.fill(7);
  assert.deepEqual(args.modelInput[0].tokens, int32(1, 2));
  assert.deepEqual(args.lossFnInputs.target_tokens.data, int64(1, 2));
  assert.deepEqual(args.lossFnInputs.weights.data, float32(1, 1));
});

test("a view into a larger buffer crosses as what it shows", () => {
  const tokens = new Int32Array(Int32Array.of(9, 1, 2, 9).buffer, 4, 2);
  assert.deepEqual(sentDatum({ targetTokens: tokens }, tokens).modelInput[0].tokens, int32(1, 2));
});

test("chunks and tensors written out cross as they are", () => {
  const { modelInput, lossFnInputs } = sentDatum(
    { targetTokens: { data: [1, 2, 3, 4], shape: [2, 2] }, weights: { data: [1, 0, 1, 0], shape: [2, 2] } },
    {
      chunks: [
        { type: "encoded_text", tokens: [1] },
        { type: "encoded_text", tokens: [2] },
      ],
    },
  );
  assert.deepEqual(
    modelInput.map(({ tokens }) => tokens),
    [int32(1), int32(2)],
  );
  assert.deepEqual(lossFnInputs.target_tokens, { dtype: "int64", shape: [2, 2], data: int64(1, 2, 3, 4) });
  assert.deepEqual(lossFnInputs.weights.shape, [2, 2]);
});

test("a batch that is none is refused", async () => {
  await refusedData([], "data", /at least one datum/);
  await refusedData(undefined, "data");
  await refusedData({}, "data");
  await refusedData([undefined], "data[0]", /undefined/);
  await refusedData([null], "data[0]");
});

test("tensor lengths that don't agree are refused, with both lengths", async () => {
  const at = "data[0].lossFnInputs";
  await refusedData(datum({ targetTokens: [1, 2, 3] }), `${at}.targetTokens`, /3 positions.* 2 tokens/);
  await refusedData(datum({ targetTokens: [1, 2], weights: [1] }), `${at}.weights`, /1 numbers.* 2/);
  await refusedData(datum({ target_tokens: [1] }), `${at}.target_tokens`);
  await refusedData(
    datum({ targetTokens: { data: [1, 2], shape: [3] } }),
    `${at}.targetTokens.shape`,
    /\[3\] holds 3 numbers and data has 2/,
  );
  await refusedData(datum({ targetTokens: { data: [1], shape: [-1] } }), `${at}.targetTokens.shape[0]`);
  await refusedData(datum({ targetTokens: { data: [1], shape: [] } }), `${at}.targetTokens.shape`);
});

test("a number that can't be one is named by its place", async () => {
  const good = { modelInput: [1], lossFnInputs: { targetTokens: [1] } };
  const data = (bad) => [good, good, { modelInput: [1, 2], lossFnInputs: { targetTokens: [1, 2], ...bad } }];
  for (const value of [NaN, Infinity, 1e39, "1", null, undefined, [1], {}]) {
    await refusedData(data({ weights: [1, value] }), "data[2].lossFnInputs.weights[1]", /finite/);
  }
  await refusedData(data({ weights: Float32Array.of(NaN, 1) }), "data[2].lossFnInputs.weights[0]");
  // eslint-disable-next-line no-sparse-arrays -- a hole is what is tested
  await refusedData(data({ weights: [, 1] }), "data[2].lossFnInputs.weights[0]");
  for (const token of [-1, -100, 1.5, 2 ** 31, NaN, "5", null, 2n ** 40n]) {
    await refusedData(data({ targetTokens: [1, token] }), "data[2].lossFnInputs.targetTokens[1]", /token id/);
    await refusedData([{ modelInput: [1, token], lossFnInputs: {} }], "data[0].modelInput[1]", /token id/);
  }
  for (const value of [1.5, 2 ** 53, 2n ** 63n, "1"]) {
    await refusedData(
      data({ extra: { data: [value], dtype: "int64" } }),
      "data[2].lossFnInputs.extra.data[0]",
      /integer/,
    );
  }
});

test("a datum of another shape is refused, with what was meant", async () => {
  await refusedData([{ model_input: [1] }], "data[0].model_input", /did you mean modelInput/);
  await refusedData([{ lossFnInputs: {} }], "data[0].modelInput", /undefined/);
  await refusedData([{ modelInput: [1] }], "data[0].lossFnInputs");
  await refusedData(datum({}, []), "data[0].modelInput", /no tokens/);
  await refusedData(datum({}, { chunks: [] }), "data[0].modelInput", /no tokens/);
  await refusedData(datum({}, "text"), "data[0].modelInput", /tokenizer/);
  await refusedData(
    datum({}, { chunks: [{ type: "image" }] }),
    "data[0].modelInput.chunks[0].type",
    /"image"/,
  );
  await refusedData(datum({}, { chunks: [{ type: "encoded_text" }] }), "data[0].modelInput.chunks[0].tokens");
  await refusedData(datum({}, new DataView(new ArrayBuffer(4))), "data[0].modelInput");
  await refusedData(datum({ weights: "1" }), "data[0].lossFnInputs.weights");
  await refusedData(
    datum({ weights: { data: [1], dtype: "float64" } }),
    "data[0].lossFnInputs.weights.dtype",
  );
  await refusedData(
    datum({ targetTokens: { data: [1, 2], dtype: "float32" } }),
    "data[0].lossFnInputs.targetTokens.dtype",
  );
  await refusedData(
    datum({ targetTokens: [1, 2], target_tokens: [1, 2] }),
    "data[0].lossFnInputs.target_tokens",
    /same input/,
  );
});

test("names that every object has are not taken for inputs", () => {
  const { lossFnInputs } = sentDatum({ constructor: [1], toString: [2] });
  assert.deepEqual(Object.keys(lossFnInputs), ["constructor", "toString"]);
});

test("a loss function's own settings cross; what can't be one is refused", async () => {
  const args = sent(
    training.forward(datum({ targetTokens: [1, 2] }), "ppo", { lossFnConfig: { clip: 0.2, kind: "a" } }),
  );
  assert.deepEqual([args.lossFn, args.lossFnConfig], ["ppo", { clip: 0.2, kind: "a" }]);
  await refused(
    () => training.forward(datum({}), "ppo", { lossFnConfig: { clip: NaN } }),
    "lossFnConfig.clip",
  );
  await refused(() => training.forward(datum({}), ""), "lossFn");
});

test("numbers come back as typed arrays, each with a buffer of its own", async () => {
  const call = training.forward(datum({ targetTokens: [1, 2] }), "cross_entropy");
  const logprobs = float32(-1, -2);
  instance.settle({
    lossFnOutputType: "scalar",
    lossFnOutputs: [
      {
        logprobs: { dtype: "float32", shape: [2], data: logprobs },
        ids: { dtype: "int64", shape: [1], data: int64(-5) },
      },
    ],
    metrics: { "loss:sum": 3 },
  });
  const { lossFnOutputs, metrics, lossFnOutputType } = await call;
  assert.deepEqual(lossFnOutputs[0].logprobs, {
    dtype: "float32",
    shape: [2],
    data: Float32Array.of(-1, -2),
  });
  assert.equal(lossFnOutputs[0].logprobs.data.buffer.byteLength, 8);
  assert.deepEqual(lossFnOutputs[0].ids.data, BigInt64Array.of(-5n));
  assert.deepEqual([metrics, lossFnOutputType], [{ "loss:sum": 3 }, "scalar"]);
});

test("a sample crosses with its defaults, and comes back whole", async () => {
  const call = sampler.sample([1, 2]);
  assert.deepEqual(instance.lastCall.args, {
    prompt: [{ type: "encoded_text", tokens: int32(1, 2) }],
    numSamples: 1,
    samplingParams: {},
    includePromptLogprobs: false,
    topkPromptLogprobs: 0,
  });
  instance.settle({
    sequences: [
      { tokens: int32(5, 6), logprobs: float32(-1, -2), stopReason: "stop", sequenceId: "q" },
      { tokens: int32(), stopReason: "length" },
    ],
    promptLogprobs: float32(NaN, -1),
    topkPromptLogprobs: { tokenIds: int32(1, 2), logprobs: float32(-1, -99999), k: 1, length: 2 },
  });
  assert.deepEqual(await call, {
    sequences: [
      { tokens: Int32Array.of(5, 6), logprobs: Float32Array.of(-1, -2), stopReason: "stop", sequenceId: "q" },
      { tokens: Int32Array.of(), stopReason: "length" },
    ],
    promptLogprobs: Float32Array.of(NaN, -1),
    topkPromptLogprobs: {
      tokenIds: Int32Array.of(1, 2),
      logprobs: Float32Array.of(-1, -99999),
      k: 1,
      length: 2,
    },
  });
  const logprobs = sampler.computeLogprobs([1, 2]);
  instance.settle({ logprobs: float32(NaN, -1) });
  assert.deepEqual(await logprobs, Float32Array.of(NaN, -1));
});

test("sampling parameters are checked by name and range", async () => {
  for (const stop of ["\n", ["a", "b"], [1, 2], []]) {
    assert.deepEqual(sent(sampler.sample([1], { samplingParams: { stop } })).samplingParams, { stop });
  }
  const bad = (samplingParams, field, words) =>
    refused(() => sampler.sample([1], { samplingParams }), field, words);
  await bad({ max_tokens: 4 }, "samplingParams.max_tokens", /did you mean maxTokens/);
  await bad({ maxTokens: 0 }, "samplingParams.maxTokens", /integer from 1/);
  await bad({ temperature: -1 }, "samplingParams.temperature");
  await bad({ temperature: NaN }, "samplingParams.temperature");
  await bad({ topP: 1.1 }, "samplingParams.topP", /from 0 to 1/);
  await bad({ topK: 0 }, "samplingParams.topK");
  await bad({ stop: "" }, "samplingParams.stop[0]");
  await bad({ stop: ["a", 1] }, "samplingParams.stop[1]");
  await bad({ stop: [1, "a"] }, "samplingParams.stop[1]");
  await bad({ seed: 0.5 }, "samplingParams.seed");
  await refused(() => sampler.sample([1], { numSamples: 0 }), "numSamples");
  await refused(() => sampler.sample([1], { maxTokens: 3 }), "maxTokens", /samplingParams/);
  await refused(() => sampler.sample([]), "prompt", /no tokens/);
  await refused(() => sampler.sample("hello"), "prompt", /tokenizer/);
  await refused(() => sampler.computeLogprobs([0.5]), "prompt[0]");
});

test("other arguments are completed with the service's defaults, and checked", async () => {
  assert.deepEqual(sent(training.optimStep({ learningRate: 3e-3, eps: undefined })), {
    learningRate: 3e-3,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-12,
    weightDecay: 0,
    gradClipNorm: 0,
  });
  assert.deepEqual(sent(training.saveState("a", { ttlSeconds: 3_600 })), {
    name: "a",
    overwrite: false,
    ttlSeconds: 3_600,
  });
  assert.deepEqual(sent(training.loadStateWithOptimizer("tinker://a")), {
    path: "tinker://a",
    optimizer: true,
  });
  assert.deepEqual(sent(training.loadState("tinker://a")), { path: "tinker://a", optimizer: false });
  assert.deepEqual(sent(service.createLoraTrainingClient("m", { seed: 1 })), {
    baseModel: "m",
    rank: 32,
    seed: 1,
    trainMlp: true,
    trainAttn: true,
    trainUnembed: true,
  });
  assert.deepEqual(sent(service.createTrainingClientFromStateWithOptimizer("tinker://a")), {
    path: "tinker://a",
    optimizer: true,
  });
  await refused(() => training.optimStep({ lr: 1 }), "lr", /learningRate/);
  await refused(() => training.optimStep({ learningRate: "1" }), "learningRate");
  await refused(() => training.optimStep({ beta1: 1 }), "beta1", /below 1/);
  await refused(() => training.optimStep(null), "options");
  await refused(() => training.optimStep({}, { signal: {} }), "signal");
  await refused(() => training.saveState(""), "name");
  await refused(() => training.saveState("a", { ttlSeconds: 60 }), "ttlSeconds", /3600/);
  await refused(() => training.loadState("a"), "path", /tinker:\/\//);
  await refused(() => service.createLoraTrainingClient(), "baseModel");
  await refused(() => service.createLoraTrainingClient("m", { rank: 0 }), "rank");
  await refused(
    () => service.createLoraTrainingClient("m", { trainMlp: false, trainAttn: false, trainUnembed: false }),
    "trainMlp",
  );
  await refused(() => service.createLoraTrainingClient("m", { userMetadata: { a: 1 } }), "userMetadata.a");
  await refused(() => service.createSamplingClient(), "options", /baseModel/);
  await refused(() => service.createSamplingClient({}), "baseModel");
  await refused(() => service.createSamplingClient({ baseModel: "m", modelPath: "tinker://a" }), "baseModel");
});
