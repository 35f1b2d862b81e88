// What a call can reject with: a small tree of classes, each with a stable `code`. `outcome` says whether the server may
// have acted, `retryable` whether making the same call again is safe and may help.

import type { StoreError } from "./store/store.js";

/**
 * Whether the server may have acted on a call that failed: `not_sent`: nothing left this machine; `refused`: it answered
 * that it did not; `unknown`: no answer says; `journaled`: the call has its number and goes on without this caller.
 */
export type Outcome = "not_sent" | "refused" | "unknown" | "journaled";

/** Shared by every copy of this package in a program, which `instanceof` is not. */
const KINDS: unique symbol = Symbol.for("tinkex.errors") as never;

interface Facts {
  outcome?: Outcome;
  retryable?: boolean;
  cause?: unknown;
}

/** Any failure of this package. */
export class TinkexError extends Error {
  static code = named(this, "TinkexError", "error");

  /** The same in every version, for programs to compare. */
  readonly code: string;
  readonly outcome: Outcome;
  readonly retryable: boolean;

  constructor(message: string, { outcome = "not_sent", retryable = false, cause }: Facts = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = new.target.code;
    this.outcome = outcome;
    this.retryable = retryable;
  }

  /** Like `instanceof`, and true as well for an error of another copy or version of this package. */
  static isInstance<T extends TinkexError>(
    this: abstract new (...args: never) => T,
    value: unknown,
  ): value is T {
    const kinds = (value as { [KINDS]?: unknown } | null | undefined)?.[KINDS];
    return Array.isArray(kinds) && kinds.includes((this.prototype as T).name);
  }

  /** The names of this error's classes, from its own up. They are written out, as minifiers rename classes. */
  get [KINDS](): string[] {
    const kinds: string[] = [];
    for (let kind = above(this); kind !== Error.prototype; kind = above(kind)) kinds.push(kind.name);
    return kinds;
  }
}

/** A method was called before `init()` had resolved. Nothing was sent. */
export class NotInitializedError extends TinkexError {
  static override code = named(this, "NotInitializedError", "not_initialized");

  constructor(method: string) {
    super(`${method} was called before init(): call \`await init()\` once, before the first method`);
  }
}

/** `init()` could not get or start the WebAssembly; it may be called again. */
export class InitError extends TinkexError {
  static override code = named(this, "InitError", "init_failed");

  constructor(message: string, cause?: unknown) {
    super(message, { retryable: true, cause });
  }
}

/** An argument that can't be taken. Nothing was sent. */
export class InvalidArgumentError extends TinkexError {
  static override code = named(this, "InvalidArgumentError", "invalid_argument");

  /** Which one, as the caller wrote it: `data[3].lossFnInputs.weights[7]`. */
  readonly field: string;

  constructor(field: string, message: string, facts?: Facts) {
    super(message, facts);
    this.field = field;
  }
}

/** The server answered with a status that is not 2xx. */
export class APIError extends TinkexError {
  static override code = named(this, "APIError", "api_error");

  readonly status: number;
  /** The answer's text, as it came. */
  readonly body: string;

  constructor(message: string, status: number, body: string, facts?: Facts) {
    super(message, facts);
    this.status = status;
    this.body = body;
  }
}

/** 400: the request was understood and can't be done. */
export class BadRequestError extends APIError {
  static override code = named(this, "BadRequestError", "bad_request");
}

/** 401: the key is wrong or has expired. */
export class AuthenticationError extends APIError {
  static override code = named(this, "AuthenticationError", "authentication");
}

/** 402: the account is paused for billing. */
export class BillingError extends APIError {
  static override code = named(this, "BillingError", "billing");
}

/** 403: the key is right and may not do this. */
export class PermissionDeniedError extends APIError {
  static override code = named(this, "PermissionDeniedError", "permission_denied");
}

/** 404: no such model, checkpoint, session or path. */
export class NotFoundError extends APIError {
  static override code = named(this, "NotFoundError", "not_found");
}

/** 409: the name is in use, or the sequence number has another body. */
export class ConflictError extends APIError {
  static override code = named(this, "ConflictError", "conflict");
}

/** 410: it was there and is no more, such as a session that has ended. */
export class GoneError extends APIError {
  static override code = named(this, "GoneError", "gone");
}

/** 422: a field of the request has a value that the server can't take. */
export class UnprocessableEntityError extends APIError {
  static override code = named(this, "UnprocessableEntityError", "unprocessable_entity");
}

/** 429, after all retries. */
export class RateLimitError extends APIError {
  static override code = named(this, "RateLimitError", "rate_limit");
}

/** 5xx, after all retries. */
export class InternalServerError extends APIError {
  static override code = named(this, "InternalServerError", "internal_server");
}

/** No answer came: refused, reset, name not found, offline, or kept back by CORS. */
export class APIConnectionError extends TinkexError {
  static override code = named(this, "APIConnectionError", "connection");
}

/** No answer came in time. */
export class APITimeoutError extends APIConnectionError {
  static override code = named(this, "APITimeoutError", "timeout");
}

/** The server's answer can't be read: it does not speak this protocol, or not this version of it. */
export class ProtocolError extends TinkexError {
  static override code = named(this, "ProtocolError", "protocol");
}

/** The server took the request, tried, and answered that it failed. */
export class RequestFailedError extends TinkexError {
  static override code = named(this, "RequestFailedError", "request_failed");

  /** Whose fault, as the server has it: `user`, `server` or `unknown`. */
  readonly category: string;

  constructor(message: string, category: string, facts?: Facts) {
    super(message, facts);
    this.category = category;
  }
}

/** The caller gave the call up by its `signal`, whose reason is the `cause`. */
export class AbortedError extends TinkexError {
  static override code = named(this, "AbortedError", "aborted");
}

/** The client, or the service that it belongs to, was closed. */
export class ClosedError extends TinkexError {
  static override code = named(this, "ClosedError", "closed");
}

/** A task of this package panicked: a defect here, not of the caller's. Siblings go on. */
export class CrashedError extends TinkexError {
  static override code = named(this, "CrashedError", "crashed");

  /** The source line that panicked. */
  readonly place: string;
  /** On whose behalf, from the nearest. */
  readonly callers: readonly string[];

  constructor(message: string, place: string, callers: readonly string[], facts?: Facts) {
    super(message, facts);
    this.place = place;
    this.callers = callers;
  }
}

/** More calls are under way than one client may have: a loop that never waits ends here, and not out of memory. */
export class TooManyCallsError extends TinkexError {
  static override code = named(this, "TooManyCallsError", "too_many_calls");
}

/**
 * Why records can't be kept: `fenced`: another page or process has the session now; `quota`: no room; `unavailable`: there
 * is no such store, or it may not be used; `closed`, `aborted`, `blocked`: the store was closed, gave up, or an old page
 * keeps it; `too_new`: a newer version of this package wrote it; `damaged`: it is not what was written.
 */
export type StorageReason = StoreError["kind"] | "damaged";

/** What keeps the records has failed. A call whose `outcome` is `not_sent` was not sent for that. */
export class StorageError extends TinkexError {
  static override code = named(this, "StorageError", "storage");

  readonly reason: StorageReason;

  constructor(message: string, reason: StorageReason, facts?: Facts) {
    super(message, facts);
    this.reason = reason;
  }
}

/** `finish()` was called while there are calls that are not done, or whose end nobody has seen. */
export class PendingCallsError extends TinkexError {
  static override code = named(this, "PendingCallsError", "pending_calls");
}

/** The data that a run was opened with is not the data that it was started with. Nothing of the run was touched. */
export class DataMismatchError extends TinkexError {
  static override code = named(this, "DataMismatchError", "data_mismatch");
}

/** A step function asked for something else than it did before, at the same place of the same step. */
export class StepMismatchError extends TinkexError {
  static override code = named(this, "StepMismatchError", "step_mismatch");
}

/** The WebAssembly instance died (out of memory, stack overflow, a trap), and what it held with it. */
export class InstanceLostError extends TinkexError {
  static override code = named(this, "InstanceLostError", "instance_lost");
}

/** Puts the name of a class on its prototype, so that a stack trace begins with it, and gives its code back. */
function named(kind: { prototype: Error }, name: string, code: string): string {
  Object.defineProperty(kind.prototype, "name", { value: name, configurable: true, writable: true });
  return code;
}

function above(kind: Error): Error {
  return Object.getPrototypeOf(kind) as Error;
}
