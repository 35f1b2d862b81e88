// A user's TypeScript: it has to compile, and the lines that are marked must not.
import { init, RateLimitError, ServiceClient, TinkexError } from "tinkex";
import type { ForwardBackwardOutput } from "tinkex";

export async function firstLoss(baseURL: string): Promise<number | undefined> {
  await init();
  const service = new ServiceClient({ apiKey: "tml-a-test", baseURL });
  try {
    const training = await service.createLoraTrainingClient("tinkex/tiny", { rank: 4 });
    const datum = { modelInput: new Int32Array([1, 2]), lossFnInputs: { targetTokens: [2, 3] } };
    const output: ForwardBackwardOutput = await training.forwardBackward([datum], "cross_entropy");
    // @ts-expect-error: a loss function that the service doesn't have
    await training.forwardBackward([datum], "cross_entropie");
    // @ts-expect-error: the option is called learningRate
    await training.optimStep({ lr: 1 });
    return output.metrics["loss:sum"];
  } catch (error) {
    if (error instanceof RateLimitError) return error.status;
    if (error instanceof TinkexError && error.retryable) return undefined;
    throw error;
  } finally {
    await service.close();
  }
}
