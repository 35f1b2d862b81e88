// An error of this tab as it crosses to another one.

import type { Failure } from "./boundary.js";
import { APIError, InvalidArgumentError, RequestFailedError, StorageError, TinkexError } from "./errors.js";
import { BY_KIND } from "./failures.js";

/** `errorOf` makes one of the same class of it. */
export function failureOf(thrown: unknown): Failure {
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  if (!(thrown instanceof TinkexError)) {
    return { kind: "crashed", message, outcome: "unknown", retryable: false };
  }
  const { outcome, retryable } = thrown;
  const facts = { message, outcome, retryable };
  if (thrown instanceof InvalidArgumentError) {
    return { kind: "invalid_argument", field: thrown.field, ...facts };
  }
  if (thrown instanceof APIError) return { kind: "api", status: thrown.status, body: thrown.body, ...facts };
  if (thrown instanceof RequestFailedError) {
    return { kind: "request_failed", category: thrown.category, ...facts };
  }
  if (thrown instanceof StorageError) return { kind: "storage", reason: thrown.reason, ...facts };
  const kinds = Object.keys(BY_KIND) as (keyof typeof BY_KIND)[];
  const kind = kinds.find((kind) => BY_KIND[kind].code === thrown.code);
  return { kind: kind ?? "crashed", ...facts };
}
