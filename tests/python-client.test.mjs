// The official Python client: it works with the sandbox, our client does the same bit for bit, and our codecs agree with its.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { pkg, root } from "../scripts/paths.mjs";
import { clientPython } from "./python/client.mjs";
import { conform } from "./python/conformance.mjs";
import { startSandbox } from "./support/sandbox.mjs";

const folder = join(root, "tests", "python");
const responses = join(root, "tests", "wire", "responses.jsonl");

let python;
before(async () => {
  python = await clientPython();
});

/** What a program writes to its standard output; rejects with what it wrote to the other one when it fails. */
async function output(program, args) {
  const { stdout } = await promisify(execFile)(program, args, { cwd: root, maxBuffer: 64 << 20 });
  return stdout;
}

/** What the Python client saw of a sandbox. */
async function conformance(url) {
  return JSON.parse(await output(python, [join(folder, "conformance.py"), url]));
}

const loss = (bits) => new DataView(Uint8Array.from(Buffer.from(bits, "hex")).buffer).getFloat64(0);

test("the Python client trains, saves, resumes, samples and manages checkpoints", async (t) => {
  const sandbox = await startSandbox(t);
  const seen = await conformance(sandbox.url);

  assert.equal(seen.base_model_is_served, true);
  assert.deepEqual(seen.info, { model_name: "tinkex/sandbox-1m", lora_rank: 4, is_lora: true });
  assert.equal(seen.first_half.losses.length + seen.second_half.losses.length, 20);
  assert.ok(loss(seen.second_half.final_loss) < loss(seen.first_half.losses[0]) / 2, "the loss falls");

  assert.equal(seen.second_half.losses[0], seen.first_half.final_loss, "a save changes nothing");
  assert.deepEqual(seen.resumed_half, seen.second_half, "resumed with its optimizer, a run goes on the same");
  assert.equal(
    seen.restarted_half.losses[0],
    seen.second_half.losses[0],
    "without it, from the same weights",
  );
  assert.notDeepEqual(seen.restarted_half, seen.second_half, "but not with the same steps");

  assert.deepEqual(seen.resumed, seen.trained, "the same weights give the same samples for a seed");
  assert.notDeepEqual(seen.base, seen.trained);
  for (const { tokens, logprobs, stop_reason } of seen.trained.sequences) {
    assert.equal(tokens.length, logprobs.length);
    assert.ok(tokens.length === 12 || stop_reason === "stop");
  }
  assert.deepEqual(
    seen.trained.prompt_logprobs.slice(0, 3),
    seen.second_half.logprobs[0].slice(0, 3),
    "a prompt is scored as the same tokens are in training",
  );

  assert.equal(seen.weights_info, "tinkex/sandbox-1m");
  assert.ok(seen.runs_are_listed && seen.listed && seen.listed_everywhere);
  assert.deepEqual(seen.left_after_delete, []);
  assert.match(seen.deleted_checkpoint, /^NotFoundError: .*no checkpoint/);
  assert.match(seen.unknown_model, /^BadRequestError: .*tinkex\/sandbox-1m/, "it says what is served");
});

test("the JavaScript client gets the same losses and samples, bit for bit", async (t) => {
  const sandbox = await startSandbox(t);
  const tinkex = await import(pathToFileURL(join(pkg, "index.js")));
  await tinkex.init();
  const ours = await conform(tinkex, sandbox.url);
  const theirs = await conformance(sandbox.url);
  for (const part of Object.keys(ours)) assert.deepEqual(ours[part], theirs[part], part);
});

test("the golden responses are what the Python client makes today", async () => {
  await output(python, [join(folder, "golden_responses.py"), "check", responses]);
});

test("the Python client reads the same values out of what our codecs write", async (t) => {
  const temporary = mkdtempSync(join(tmpdir(), "tinkex-golden-"));
  t.after(() => rmSync(temporary, { recursive: true }));
  const ours = join(temporary, "ours.jsonl");
  const example = ["-p", "tinkex-protocol", "--example", "rewrite_responses"];
  writeFileSync(ours, await output("cargo", ["run", "--quiet", "--locked", ...example]));
  const said = await output(python, [join(folder, "golden_responses.py"), "read", responses, ours]);
  assert.match(said, /^\d+ bodies are read the same/);
});
