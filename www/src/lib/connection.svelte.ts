// Which server the console speaks to, and whether it answers. Address and key live in memory only and go with the page.
import { init, ServiceClient } from "tinkex";
import { advise, type Advice } from "./advice.ts";
import { Corpora } from "./datasets.ts";
import { fetchTokenizer, type TextCodec } from "./tokenizer.ts";

/** A model that the server trains. */
export interface Model {
  name: string;
  /** Tokens that it reads at once, where the server says so. */
  contextLength?: number;
}

/** What a training run needs of a server. */
export interface Connected {
  kind: "connected";
  service: ServiceClient;
  codec: TextCodec;
  corpora: Corpora;
  models: readonly [Model, ...Model[]];
}

export type ConnectionState = { kind: "connecting" } | Connected | { kind: "failed"; advice: Advice };

export interface Server {
  /** As `http://127.0.0.1:8123`. */
  address: string;
  apiKey: string;
  /** The user knows that a key given to a page can be read by whatever runs in it; servers on this machine don't ask. */
  exposesKey: boolean;
}

/** The sandbox that served this page lets in every key of this form. */
const LOCAL_KEY = "tml-sandbox";

/** How often a request is tried again before the console says that the server is gone. */
const RETRIES = 4;

export class Connection {
  #server = $state.raw<Server>({ address: location.origin, apiKey: LOCAL_KEY, exposesKey: false });
  #state = $state.raw<ConnectionState>({ kind: "connecting" });
  /** The attempt whose outcome counts: a slow one must not overwrite a later one. */
  #attempt = 0;

  get server(): Server {
    return this.#server;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Never rejects: what went wrong is in `state`. Closes the connection that there was. */
  async connect(server: Server = this.#server): Promise<void> {
    const attempt = ++this.#attempt;
    if (this.#state.kind === "connected") void this.#state.service.close().catch(() => {});
    this.#server = server;
    this.#state = { kind: "connecting" };
    const outcome = await open(server).catch((error: unknown): ConnectionState => ({
      kind: "failed",
      advice: advise(error, server.address),
    }));
    if (attempt === this.#attempt) this.#state = outcome;
    else if (outcome.kind === "connected") await outcome.service.close().catch(() => {});
  }
}

async function open({ address, apiKey, exposesKey }: Server): Promise<ConnectionState> {
  await init({ worker: true });
  const service = new ServiceClient({
    apiKey,
    baseURL: address,
    dangerouslyAllowBrowser: exposesKey,
    maxRetries: RETRIES,
  });
  try {
    const { supportedModels } = await service.getServerCapabilities();
    const models = supportedModels
      .filter(({ modelName, trainable }) => modelName !== undefined && trainable !== false)
      .map(({ modelName = "", maxContextLength }) => ({
        name: modelName,
        ...(maxContextLength === undefined ? {} : { contextLength: maxContextLength }),
      }));
    const [first, ...others] = models;
    if (!first) return { kind: "failed", advice: nothingToTrain(address) };
    const codec = await fetchTokenizer(address.replace(/\/+$/, ""), apiKey);
    return { kind: "connected", service, codec, corpora: new Corpora(codec), models: [first, ...others] };
  } catch (error) {
    await service.close().catch(() => {});
    throw error;
  }
}

function nothingToTrain(address: string): Advice {
  return {
    title: "This server trains no model",
    todo: "Choose a server that does; the sandbox serves a small one.",
    detail: `${address} names no model that can be trained.`,
    remedy: "server",
  };
}
