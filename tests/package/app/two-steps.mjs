// A user's program, the same in every runtime: two training steps on a model that is trained for real, a sample of it, and
// the same steps as a training run, which loads the package's second file.
import { ServiceClient } from "tinkex";

/** Resolves to what can be compared between runtimes: losses, sampled tokens and their log-probabilities. */
export async function twoSteps(baseURL) {
  const service = new ServiceClient({ apiKey: "tml-a-test", baseURL });
  const training = await service.createLoraTrainingClient("tinkex/sandbox-1m", { rank: 4, seed: 7 });
  const tokens = Array.from({ length: 24 }, (_, i) => 10 + ((i * 7) % 40));
  const datum = { modelInput: tokens.slice(0, -1), lossFnInputs: { targetTokens: tokens.slice(1) } };

  const steps = [];
  for (let step = 0; step < 2; step++) {
    steps.push(training.forwardBackward([datum], "cross_entropy"));
    steps.push(training.optimStep({ learningRate: 1e-2 }));
  }
  const losses = (await Promise.all(steps)).flatMap(({ metrics }) => metrics["loss:sum"] ?? []);

  const sampler = await training.saveWeightsAndGetSamplingClient();
  const samplingParams = { maxTokens: 8, temperature: 1, seed: 3 };
  const { sequences } = await sampler.sample(tokens.slice(0, 8), { numSamples: 1, samplingParams });
  const [{ tokens: sampled, logprobs }] = sequences;

  const run = await service.startRun({
    baseModel: "tinkex/sandbox-1m",
    rank: 4,
    loraSeed: 7,
    data: [datum],
    batchSize: 1,
    epochs: 2,
    learningRate: 1e-2,
  });
  await run.ended;
  const ofRun = (await run.history()).flatMap(({ type, loss }) => (type === "step" ? loss : []));
  await service.close();
  return { losses, sampled: Array.from(sampled), logprobs: Array.from(logprobs), ofRun };
}
