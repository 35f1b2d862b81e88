// Does with the JavaScript client what conformance.py does with the Python one, from the same plan, and says what it saw in
// the same form: numbers as the hexadecimal digits of their bits.
import { readFile } from "node:fs/promises";

const plan = JSON.parse(await readFile(new URL("plan.json", import.meta.url), "utf8"));

/** `tinkex` is the package, after `init()`. */
export async function conform(tinkex, url) {
  const service = new tinkex.ServiceClient({ baseURL: url, apiKey: "tml-conformance" });
  try {
    const half = plan.steps / 2;
    const first = await service.createLoraTrainingClient(plan.base_model, {
      rank: plan.rank,
      seed: plan.seed,
    });
    const firstHalf = await train(first, half);
    const saved = await first.saveState("half-of-javascript");
    const secondHalf = await train(first, plan.steps - half);
    const trained = await sample(await first.saveWeightsAndGetSamplingClient());

    const resumed = await service.createTrainingClientFromStateWithOptimizer(saved.path);
    const resumedHalf = await train(resumed, plan.steps - half);
    const base = await sample(await service.createSamplingClient({ baseModel: plan.base_model }));
    return {
      first_half: firstHalf,
      second_half: secondHalf,
      resumed_half: resumedHalf,
      trained,
      base,
    };
  } finally {
    await service.close();
  }
}

async function train(client, steps) {
  const data = plan.data.map(({ tokens, targets, weights }) => ({
    modelInput: tokens,
    lossFnInputs: { targetTokens: targets, weights },
  }));
  const calls = Array.from({ length: steps }, () => [
    client.forwardBackward(data, "cross_entropy"),
    client.optimStep({ learningRate: plan.learning_rate }),
  ]);
  const results = await Promise.all(calls.flat());
  const losses = results
    .filter((_, index) => index % 2 === 0)
    .map(({ metrics }) => bits64(metrics["loss:sum"]));
  const forward = await client.forward(data, "cross_entropy");
  return {
    losses,
    final_loss: bits64(forward.metrics["loss:sum"]),
    logprobs: forward.lossFnOutputs.map(({ logprobs }) => bits32(logprobs.data)),
  };
}

async function sample(client) {
  const { max_tokens: maxTokens, seed, temperature, top_k: topK, top_p: topP } = plan.sample;
  const output = await client.sample(plan.prompt, {
    numSamples: plan.samples,
    samplingParams: { maxTokens, seed, temperature, topK, topP },
  });
  const scored = await client.computeLogprobs(plan.prompt);
  return {
    sequences: output.sequences.map(({ tokens, logprobs, stopReason }) => ({
      tokens: [...tokens],
      logprobs: bits32(logprobs),
      stop_reason: stopReason,
    })),
    prompt_logprobs: bits32(scored.subarray(1)),
  };
}

function bits64(number) {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, number);
  return view.getBigUint64(0).toString(16).padStart(16, "0");
}

function bits32(numbers) {
  const view = new DataView(new ArrayBuffer(4));
  return Array.from(numbers, (number) => {
    view.setFloat32(0, number);
    return view.getUint32(0).toString(16).padStart(8, "0");
  });
}
