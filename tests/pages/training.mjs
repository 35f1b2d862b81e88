// What the runs of the tests train on, the same in every page: a set of data, and a step as reinforcement learning has them.

const datum = (...tokens) => ({
  modelInput: tokens.slice(0, -1),
  lossFnInputs: { targetTokens: tokens.slice(1) },
});

const data = Array.from({ length: 24 }, (_, i) =>
  datum(...Array.from({ length: 8 }, (_, j) => 1 + ((7 * i + 3 * j) % 200))),
);

export const prompt = [1, 2, 3];

/** By how much each rollout is better than their mean, by a score with noise. */
export function advantagesOf(rollouts, noise) {
  const scores = rollouts.map((tokens, i) => (tokens[0] % 10) / 10 + noise[i]);
  const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length;
  return scores.map((score) => score - mean);
}

/** What a step trains on for a rollout, and where the prompt ends in it: nothing before that counts. */
export function inputsOf(tokens, logprobs, advantage) {
  const silent = prompt.slice(1).map(() => 0);
  return {
    targetTokens: [...prompt.slice(1), ...tokens],
    logprobs: [...silent, ...logprobs],
    advantages: [...silent, ...tokens.map(() => advantage)],
  };
}

/** Each in its turn. */
export const lossOf = (step) => (step % 2 ? "importance_sampling" : "ppo");

/** A step that samples, scores and updates, and passes points in between. */
export const stepPast = (pass) => async (ctx, step) => {
  const { sequences } = await ctx.sample(prompt, { numSamples: 3, samplingParams: { maxTokens: 4 } });
  pass("sampled");
  const rollouts = sequences.map(({ tokens }) => [...tokens]);
  const logprobs = sequences.map(({ logprobs }) => [...logprobs]);
  const noise = rollouts.map(() => ctx.random());
  pass("drawn");
  const advantages = advantagesOf(rollouts, noise);
  const batch = rollouts.map((tokens, i) => ({
    modelInput: [...prompt, ...tokens.slice(0, -1)],
    lossFnInputs: inputsOf(tokens, logprobs[i], advantages[i]),
  }));
  await Promise.all([ctx.forwardBackward(batch, lossOf(step)), ctx.optimStep()]);
  pass("trained");
  return { rollouts, logprobs, noise };
};

/** Of no importance: what counts is that it comes between two steps. */
const evaluated = { modelInput: [201, 202], lossFnInputs: { targetTokens: [202, 203] } };
export const evaluation = { data: [evaluated], every: 4 };

/** Whether this is the body of a pass over that. */
export function isEvaluation(body) {
  const [text, targets] = [body, BigInt64Array.of(202n, 203n)].map((bytes) =>
    new TextDecoder("latin1").decode(bytes),
  );
  return text.includes(targets);
}

/** What a page gives to own a run of this kind. */
export const meansOf = (kind, pass = () => undefined) =>
  ({ data: { data }, steps: { step: stepPast(pass) }, nothing: {} })[kind];

/** A run of so many steps, each of which is known by its rate in the server's log: a millionth for each step before it, and its own. */
export function optionsOf({ kind = "data", steps, ...options }, pass) {
  const points = [
    [1, 1e-6],
    [steps + 1, (steps + 1) * 1e-6],
  ];
  return {
    baseModel: "tinkex/sandbox-1m",
    rank: 4,
    loraSeed: 1,
    seed: 7,
    steps,
    learningRate: { type: "points", points },
    ...(kind === "data" && { batchSize: 4, epochs: 1_000 }),
    ...meansOf(kind, pass),
    ...options,
  };
}

/** Which step it was, by its rate. */
export const stepOf = (rate) => Math.round(rate * 1e6);
