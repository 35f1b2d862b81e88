// From a failure as it crosses the boundary to the error that a caller catches.

import type { Failure } from "./boundary.js";
import {
  AbortedError,
  APIConnectionError,
  APIError,
  APITimeoutError,
  AuthenticationError,
  BadRequestError,
  BillingError,
  ClosedError,
  ConflictError,
  CrashedError,
  DataMismatchError,
  GoneError,
  InitError,
  InstanceLostError,
  InternalServerError,
  InvalidArgumentError,
  NotFoundError,
  PendingCallsError,
  PermissionDeniedError,
  ProtocolError,
  RateLimitError,
  RequestFailedError,
  StepMismatchError,
  StorageError,
  TinkexError,
  TooManyCallsError,
  UnprocessableEntityError,
} from "./errors.js";

const BY_STATUS: Record<number, typeof APIError> = {
  400: BadRequestError,
  401: AuthenticationError,
  402: BillingError,
  403: PermissionDeniedError,
  404: NotFoundError,
  409: ConflictError,
  410: GoneError,
  422: UnprocessableEntityError,
  429: RateLimitError,
};

export const BY_KIND = {
  connection: APIConnectionError,
  timeout: APITimeoutError,
  protocol: ProtocolError,
  aborted: AbortedError,
  closed: ClosedError,
  refused: TooManyCallsError,
  pending: PendingCallsError,
  data_mismatch: DataMismatchError,
  step_mismatch: StepMismatchError,
  instance_lost: InstanceLostError,
};

/** `cause` is what the caller gave as the reason, where it gave one. */
export function errorOf(failure: Failure, cause?: unknown): TinkexError {
  const { message, outcome, retryable } = failure;
  const facts = { outcome, retryable, cause };
  switch (failure.kind) {
    case "invalid_argument":
      return new InvalidArgumentError(failure.field ?? "", message, facts);
    case "api": {
      const status = failure.status ?? 0;
      const kind = BY_STATUS[status] ?? (status >= 500 ? InternalServerError : APIError);
      return new kind(message, status, failure.body ?? "", facts);
    }
    case "request_failed":
      return new RequestFailedError(message, failure.category ?? "unknown", facts);
    case "storage":
      return new StorageError(message, failure.reason ?? "aborted", facts);
    case "crashed":
      return new CrashedError(message, failure.place ?? "", failure.callers ?? [], facts);
    case "init_failed":
      return new InitError(message);
    default:
      return new BY_KIND[failure.kind](message, facts);
  }
}
