// What a sandbox's own log says of a model, and the weights that it has.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { sandboxBinary } from "../../scripts/paths.mjs";

/** Of its optimizer steps, in their order. */
export function ratesIn(log) {
  return log
    .filter(({ kind }) => kind === "optim_step")
    .map(({ body }) => JSON.parse(body).adam_params.learning_rate);
}

/** Hashes of a living model: `weights_hash`, and `state_hash` with its optimizer. */
export async function hashesOf(sandbox, model) {
  const hashes = await (await ask(sandbox, `models/${encodeURIComponent(model)}/hash`)).json();
  assert.match(hashes.weights_hash, /^[0-9a-f]{16}$/);
  return hashes;
}

/** Applies the log to a fresh engine, and wants the model to come out as it is. */
export async function checkReplay(sandbox, model) {
  const folder = mkdtempSync(join(tmpdir(), "tinkex-replay-"));
  try {
    const file = join(folder, "log.jsonl");
    writeFileSync(file, await (await ask(sandbox, "log")).text());
    const replaying = promisify(execFile)(sandboxBinary, ["replay", "--log", file], { maxBuffer: 1 << 26 });
    const lines = (await replaying).stdout.trim().split("\n");
    const again = lines.map((line) => JSON.parse(line)).find(({ model_id }) => model_id === model);
    const live = await hashesOf(sandbox, model);
    assert.deepEqual(
      [again.weights_hash, again.state_hash],
      [live.weights_hash, live.state_hash],
      "the log gives the same weights",
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Resolves when the server has ended all its sessions, as nobody is there. */
export async function allSessionsEnded(sandbox, every) {
  for (;;) {
    const { sessions } = await (await ask(sandbox, "")).json();
    if (sessions.every(({ status }) => status.type !== "active")) return;
    await every();
  }
}

async function ask(sandbox, path) {
  const response = await fetch(`${sandbox.url}/api/v1/sandbox${path && `/${path}`}`, {
    headers: { "x-api-key": "tml-a-test" },
  });
  assert.ok(response.ok, `${path}: ${response.status}`);
  return response;
}
