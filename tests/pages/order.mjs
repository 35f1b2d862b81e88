// Many calls made without awaiting, watched from the network's side. Gives the test `run(steps, samples, worker)`.
import { init, ServiceClient } from "tinkex";

/** Learning rates are all different, so that the server's log shows which call became which request. */
export const learningRate = (step) => (step + 1) / 1e6;

globalThis.run = async (steps, samples, worker) => {
  const traffic = { inFlight: 0, most: 0, polls: 0, mostPolls: 0 };
  performance.setResourceTimingBufferSize(1_000_000);
  await init({ worker });
  const service = new ServiceClient({
    apiKey: "tml-a-test",
    baseURL: location.origin,
    fetch: watched(traffic),
  });
  const training = await service.createLoraTrainingClient("tinkex/sandbox-1m", { rank: 2, seed: 1 });
  const sampler = await service.createSamplingClient({ baseModel: "tinkex/sandbox-1m" });

  const settled = [];
  const calls = [];
  const call = (name, promise) => calls.push(promise.then(() => settled.push(name)));
  const data = [{ modelInput: [11, 12, 13], lossFnInputs: { targetTokens: [12, 13, 14] } }];
  for (let step = 0; step < steps; step++) {
    call(`forwardBackward ${step}`, training.forwardBackward(data, "cross_entropy"));
    call(`optimStep ${step}`, training.optimStep({ learningRate: learningRate(step) }));
    if (step % (steps / samples) === 0) {
      call(`sample ${step}`, sampler.sample([11, 12], { samplingParams: { maxTokens: 2, seed: step } }));
    }
  }
  await Promise.all(calls);
  await service.close();

  const requests = performance
    .getEntriesByType("resource")
    .filter((entry) => entry.name.includes("/api/v1/"));
  const waits = requests.map((entry) => entry.requestStart - entry.startTime);
  return {
    settled: settled.filter((name) => !name.startsWith("sample")),
    samples: settled.filter((name) => name.startsWith("sample")).length,
    most: traffic.most,
    mostPolls: traffic.mostPolls,
    requests: requests.length,
    protocols: [...new Set(requests.map((entry) => entry.nextHopProtocol))],
    longestWait: Math.max(...waits),
  };
};
document.title = "ready";

/** A fetch that counts what is on the wire. A connection is taken until the answer's body is in. */
function watched(traffic) {
  return async (url, options) => {
    const isPoll = String(url).endsWith("/retrieve_future");
    traffic.most = Math.max(traffic.most, ++traffic.inFlight);
    if (isPoll) traffic.mostPolls = Math.max(traffic.mostPolls, ++traffic.polls);
    try {
      const response = await fetch(url, options);
      const body = await response.arrayBuffer();
      return new Response(body, { status: response.status, headers: response.headers });
    } finally {
      traffic.inFlight -= 1;
      if (isPoll) traffic.polls -= 1;
    }
  };
}
