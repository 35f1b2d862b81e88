// A service's options: checked, completed from the environment, and kept from giving a key away in a browser.

import type { WireOptions } from "./boundary.js";
import {
  boolean,
  type Check,
  choices,
  fetchLike,
  integer,
  isRecord,
  metadata,
  refuse,
  text,
  texts,
} from "./checks.js";
import { InvalidArgumentError } from "./errors.js";
import { namespaceOf } from "./store/open.js";
import type { Persistence, Store } from "./store/store.js";
import type { Logger, ServiceOptions } from "./types.js";

const HOSTED_SERVICE = "https://tinker.thinkingmachines.dev/services/tinker-prod";
const DEFAULT_TIMEOUT = 60_000; // ms
/** What a timer can hold: 24 days. */
const LONGEST_TIMEOUT = 2 ** 31 - 1; // ms
const MOST = 2 ** 32 - 1;

/** Two places are kept for submissions and heartbeats, so that held polls never take all. */
const LEAST_CONNECTIONS = 3;

export interface Settings {
  wire: Omit<WireOptions, "owner">;
  logger: Logger;
  fetch: typeof globalThis.fetch | undefined;
  store: Store | undefined;
  /** Where records are unless a store was given. */
  place: string;
  /** What keeps them, once that is known. */
  persistence: Persistence | undefined;
}

export function settingsOf(given: ServiceOptions): Settings {
  const {
    apiKey,
    baseURL,
    dangerouslyAllowBrowser,
    fetch,
    timeout,
    tags,
    userMetadata,
    telemetry,
    ...options
  } = choices(given, {
    apiKey: (value: unknown) => value,
    baseURL: text,
    dangerouslyAllowBrowser: boolean,
    fetch: fetchLike,
    timeout: integer(1, LONGEST_TIMEOUT),
    maxRetries: integer(0, MOST),
    maxConnections: integer(LEAST_CONNECTIONS, MOST),
    logger: loggerLike,
    tags: texts,
    userMetadata: metadata,
    projectId: text,
    displayName: text,
    session: text,
    telemetry: boolean,
    store: storeLike,
    account: text,
  });
  const { store, account, logger = WARNINGS, ...rest } = options;
  const key = keyOf(apiKey === undefined ? environment("TINKER_API_KEY") : apiKey);
  const url = urlOf(baseURL ?? (environment("TINKER_BASE_URL") || HOSTED_SERVICE));
  if (!dangerouslyAllowBrowser && inBrowser() && !isLoopback(url.hostname)) {
    throw new InvalidArgumentError(
      "dangerouslyAllowBrowser",
      `an API key in a page can be read by whoever opens the page, and ${url.hostname} is not this machine: keep the ` +
        "key on a server, or set dangerouslyAllowBrowser: true where the key is the visitor's own",
    );
  }
  const server = { apiKey: key, baseURL: url.href.replace(/\/+$/, "") };
  return {
    wire: {
      ...server,
      timeoutMs: timeout ?? DEFAULT_TIMEOUT,
      tags: tags ?? [],
      userMetadata: userMetadata ?? {},
      telemetry: telemetry ?? !/^(0|false|no|off)$/i.test(environment("TINKER_TELEMETRY") ?? ""),
      ...rest,
    },
    logger,
    fetch,
    store,
    place: namespaceOf(server.baseURL, server.apiKey, account),
    persistence: store?.persistence,
  };
}

/** Never shows the key: it may be a real one with a blank too many. */
function keyOf(key: unknown): string {
  if (typeof key === "string" && /^(tml-|eyJ)[!-~]*$/.test(key)) return key;
  const what =
    key === undefined || key === ""
      ? "is missing: give it, or set TINKER_API_KEY"
      : "is not an API key: a key begins with tml-, a token with eyJ, and neither has blanks";
  throw new InvalidArgumentError("apiKey", `apiKey ${what}`);
}

function urlOf(baseURL: string): URL {
  let url: URL;
  try {
    url = new URL(baseURL);
  } catch {
    refuse(
      "baseURL",
      baseURL,
      "a whole address, such as https://example.com, or location.origin for the page's own",
    );
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    refuse("baseURL", baseURL, "an address that begins with http:// or https://");
  }
  if (url.username || url.password || url.search || url.hash) {
    // Not shown: what is in front of the @ may be a secret.
    throw new InvalidArgumentError(
      "baseURL",
      "baseURL takes an address without user, password, query and fragment",
    );
  }
  return url;
}

const loggerLike: Check<Logger> = (value, field) => {
  const whole =
    isRecord(value) &&
    ["debug", "info", "warn", "error"].every((level) => typeof value[level] === "function");
  return whole
    ? (value as unknown as Logger)
    : refuse(field, value, "an object with debug, info, warn and error");
};

/** One of this package's, or one like it. */
const storeLike: Check<Store> = (value, field) => {
  const whole =
    isRecord(value) &&
    ["load", "claim", "commit", "forget"].every((name) => typeof value[name] === "function");
  return whole ? (value as unknown as Store) : refuse(field, value, "a store, as `fileStore()` gives one");
};

/** What a service says by default. */
const WARNINGS: Logger = {
  debug() {},
  info() {},
  warn: (message) => console.warn(message),
  error: (message) => console.error(message),
};

/** A variable of the environment, where there is one and it may be read. */
function environment(name: string): string | undefined {
  try {
    const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
    return process?.env?.[name]?.trim();
  } catch {
    return undefined; // Deno without leave to read it
  }
}

/** A page, or a worker of one. Other runtimes have workers too; only browsers call themselves Mozilla. */
function inBrowser(): boolean {
  const world = globalThis as { window?: { document?: unknown }; WorkerGlobalScope?: unknown };
  if (world.window?.document !== undefined) return true;
  return world.WorkerGlobalScope !== undefined && /^Mozilla\//.test(globalThis.navigator?.userAgent ?? "");
}

function isLoopback(host: string): boolean {
  return /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/.test(host);
}
