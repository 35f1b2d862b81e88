// What a program can tell from an error: its class, its code, what the server may have done, and nothing secret.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { inspect } from "node:util";
import { test } from "node:test";
import { freshCopy, KEY, startedCopy } from "./stub.mjs";

const STATUSES = {
  400: ["BadRequestError", "bad_request"],
  401: ["AuthenticationError", "authentication"],
  402: ["BillingError", "billing"],
  403: ["PermissionDeniedError", "permission_denied"],
  404: ["NotFoundError", "not_found"],
  409: ["ConflictError", "conflict"],
  410: ["GoneError", "gone"],
  418: ["APIError", "api_error"],
  422: ["UnprocessableEntityError", "unprocessable_entity"],
  429: ["RateLimitError", "rate_limit"],
  500: ["InternalServerError", "internal_server"],
  503: ["InternalServerError", "internal_server"],
};

const KINDS = {
  connection: ["APIConnectionError", "connection"],
  timeout: ["APITimeoutError", "timeout"],
  protocol: ["ProtocolError", "protocol"],
  request_failed: ["RequestFailedError", "request_failed"],
  aborted: ["AbortedError", "aborted"],
  closed: ["ClosedError", "closed"],
  crashed: ["CrashedError", "crashed"],
  refused: ["TooManyCallsError", "too_many_calls"],
  storage: ["StorageError", "storage"],
  pending: ["PendingCallsError", "pending_calls"],
  data_mismatch: ["DataMismatchError", "data_mismatch"],
  step_mismatch: ["StepMismatchError", "step_mismatch"],
  instance_lost: ["InstanceLostError", "instance_lost"],
  invalid_argument: ["InvalidArgumentError", "invalid_argument"],
};

async function rejectionOf(copy, failure) {
  const call = copy.service.getServerCapabilities();
  copy.instance.fail(failure);
  return call.then(
    () => assert.fail("it resolved"),
    (reason) => reason,
  );
}

test("each status has its class and its code", async () => {
  const copy = await startedCopy();
  for (const [status, [name, code]] of Object.entries(STATUSES)) {
    const error = await rejectionOf(copy, { kind: "api", status: Number(status), body: "why" });
    assert.ok(error instanceof copy.tinkex[name], name);
    assert.ok(error instanceof copy.tinkex.APIError);
    const { code: hasCode, name: hasName, status: hasStatus, body } = error;
    assert.deepEqual(
      { hasCode, hasName, hasStatus, body },
      { hasCode: code, hasName: name, hasStatus: Number(status), body: "why" },
    );
  }
});

test("each kind of failure has its class and its code, and says what may be repeated", async () => {
  const copy = await startedCopy();
  for (const [kind, [name, code]] of Object.entries(KINDS)) {
    const error = await rejectionOf(copy, { kind, outcome: "refused", retryable: true });
    assert.ok(error instanceof copy.tinkex[name], name);
    assert.ok(error instanceof copy.tinkex.TinkexError);
    assert.ok(error instanceof Error);
    assert.equal(error.code, code);
    assert.equal(error.name, name);
    assert.equal(error.outcome, "refused");
    assert.equal(error.retryable, true);
    assert.match(error.stack, new RegExp(`^${name}: it failed`));
  }
});

test("every kind of failure that the client in Rust names is one of these", () => {
  const source = readFileSync(new URL("../../src/error.rs", import.meta.url), "utf8");
  const names = [...source.matchAll(/Kind::\w+(?: \{ \.\. \})? => "(\w+)"/g)].map(([, name]) => name);
  assert.ok(names.length > 5, "the list is where it was");
  for (const name of names) assert.ok(name === "api" || name in KINDS, name);
});

test("a failure's own facts are on its error", async () => {
  const copy = await startedCopy();
  const failed = await rejectionOf(copy, { kind: "request_failed", category: "user" });
  assert.equal(failed.category, "user");
  const crashed = await rejectionOf(copy, { kind: "crashed", place: "src/a.rs:1", callers: ["sample"] });
  assert.deepEqual([crashed.place, crashed.callers], ["src/a.rs:1", ["sample"]]);
  const storage = await rejectionOf(copy, { kind: "storage", reason: "quota" });
  assert.equal(storage.reason, "quota");
  const invalid = await rejectionOf(copy, { kind: "invalid_argument", field: "rank" });
  assert.equal(invalid.field, "rank");
});

test("isInstance knows the errors of another copy of the package, and the tree", async () => {
  const ours = await freshCopy().load("index");
  const theirs = await freshCopy().load("index");
  const error = new theirs.RateLimitError("slow down", 429, "");
  assert.ok(!(error instanceof ours.RateLimitError));
  assert.ok(ours.RateLimitError.isInstance(error));
  assert.ok(ours.APIError.isInstance(error));
  assert.ok(ours.TinkexError.isInstance(error));
  assert.ok(!ours.NotFoundError.isInstance(error));
  for (const other of [new Error("x"), undefined, null, "RateLimitError", { name: "RateLimitError" }]) {
    assert.ok(!ours.TinkexError.isInstance(other));
  }
});

test("a key that a server repeats is not in the error", async () => {
  const copy = await startedCopy();
  const body = `{"detail": "no such key: ${KEY}"}`;
  const error = await rejectionOf(copy, { kind: "api", status: 401, body, message: `it answered ${body}` });
  assert.ok(!inspect(error, { showHidden: true, depth: 5 }).includes(KEY));
  assert.match(error.message, /no such key: \[API key\]/);
  assert.ok(!inspect(copy.service, { showHidden: true, depth: 5 }).includes(KEY));
});
