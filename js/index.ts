// The package: what a page imports. Importing it does nothing; `init()` is the first call.

/// <reference lib="esnext.disposable" preserve="true" />

export {
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
  NotInitializedError,
  type Outcome,
  PendingCallsError,
  PermissionDeniedError,
  ProtocolError,
  RateLimitError,
  RequestFailedError,
  StepMismatchError,
  StorageError,
  type StorageReason,
  TinkexError,
  TooManyCallsError,
  UnprocessableEntityError,
} from "./errors.js";
export { init } from "./init.js";
export type { TrainingRun } from "./run.js";
export type * from "./run-types.js";
export { SamplingClient } from "./sampling.js";
export { ServiceClient } from "./service.js";
export { type Batch, type Persistence, type Store, StoreError, type StoreOp } from "./store/store.js";
export { Tasks } from "./tasks.js";
export { TrainingClient } from "./training.js";
export type * from "./types.js";
