// From an error to what a person does about it. Every error that the console shows passes through here.
import {
  APIConnectionError,
  APIError,
  APITimeoutError,
  AuthenticationError,
  DataMismatchError,
  GoneError,
  InstanceLostError,
  InvalidArgumentError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
} from "tinkex";
import { DataError } from "./data.ts";
import { NoTokenizerError } from "./tokenizer.ts";

/** What the button beside an error does. */
export type Remedy = "retry" | "server" | "settings" | "reload" | "wait";

export interface Advice {
  /** What happened, in a few words. */
  title: string;
  /** What to do. */
  todo: string;
  /** The error's own words, for whoever wants them. Empty: it has none. */
  detail: string;
  remedy: Remedy;
}

/** `server`: the address that was being spoken to. */
export function advise(error: unknown, server: string): Advice {
  const detail = error instanceof Error ? error.message : String(error);
  const advice = (title: string, todo: string, remedy: Remedy): Advice => ({ title, todo, detail, remedy });

  if (error instanceof AuthenticationError || error instanceof PermissionDeniedError)
    return advice(
      "The server refused the key",
      "Enter a key that this server knows. The built-in sandbox takes any that begins with “tml-”.",
      "server",
    );
  if (error instanceof InvalidArgumentError && error.field === "apiKey")
    return advice("That is not an API key", "Enter a key that begins with “tml-”.", "server");
  if (error instanceof InvalidArgumentError && error.field === "baseURL")
    return advice("That is not a server’s address", "Enter one like http://127.0.0.1:8123.", "server");
  if (error instanceof InvalidArgumentError)
    return advice("A setting was refused", "Change it and start again.", "settings");
  if (error instanceof APIConnectionError || isFetchFailure(error))
    return advice(
      `No answer from ${host(server)}`,
      "Start the server (npm start) or check its address, then try again.",
      "retry",
    );
  if (error instanceof DataMismatchError)
    return advice(
      "The data set has changed since the run was started",
      "The run can be read here and does not go on. Start another one.",
      "settings",
    );
  if (error instanceof APITimeoutError)
    return advice(
      "The tab that has the run doesn’t answer",
      "Look at that tab or close it: then this one takes over. Try again.",
      "settings",
    );
  if (error instanceof GoneError || error instanceof NotFoundError)
    return advice(
      "The server no longer knows this",
      "It was restarted without its data. Try again.",
      "retry",
    );
  if (error instanceof RateLimitError)
    return advice("The server is busy", "Wait a minute, then try again.", "retry");
  if (error instanceof NoTokenizerError)
    return advice(
      "This server gives no tokenizer",
      "The console trains on a server that serves one, as the sandbox does. Choose another server.",
      "server",
    );
  if (error instanceof DataError)
    return advice("The data set can’t be read", "Choose another one.", "settings");
  if (error instanceof APIError)
    return advice(
      `The server answered ${error.status}`,
      "Try again; if it stays, read the server’s log.",
      "retry",
    );
  if (error instanceof InstanceLostError)
    return advice("The page’s client was lost", "Reload the page: runs go on where they were.", "reload");
  return advice(
    "The console failed",
    "Reload the page. If it happens again, report the words below.",
    "reload",
  );
}

/** Nothing answers, and the client is still trying. */
export function adviseToWait(server: string): Advice {
  return {
    title: `No answer from ${host(server)}`,
    todo: "Start the server again (npm start): the run goes on as soon as it answers.",
    detail: "",
    remedy: "wait",
  };
}

/** `fetch` rejects with a TypeError when nothing answers: the page's own requests for a tokenizer or a data set. */
function isFetchFailure(error: unknown): boolean {
  return error instanceof TypeError && /fetch|network|load failed/i.test(error.message);
}

function host(server: string): string {
  return URL.canParse(server) ? new URL(server).host : server;
}
