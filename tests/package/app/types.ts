// A user's TypeScript: it has to compile, and the lines that are marked must not.
import { init, RateLimitError, ServiceClient, StoreError, TinkexError } from "tinkex";
import type { ForwardBackwardOutput, Store } from "tinkex";
import { fileStore } from "tinkex/file";
import { smallValueStore } from "tinkex/small-values";

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

export const inADirectory: Store = fileStore("runs/one");

/** As a Durable Object's storage has them. */
interface Values {
  get<T>(key: string): Promise<T | undefined>;
  put<T>(key: string, value: T): Promise<void>;
  delete(key: string): Promise<boolean>;
  list<T>(options?: { prefix?: string }): Promise<Map<string, T>>;
}
interface Storage extends Values {
  transaction<T>(closure: (values: Values & { rollback(): void }) => Promise<T>): Promise<T>;
  sync(): Promise<void>;
}
export const inAnObject = (storage: Storage): Store => smallValueStore(storage, { maxValueBytes: 2 ** 21 });

export const mayTryAgain = (thrown: unknown) => thrown instanceof StoreError && thrown.retryable;
