// What a run asks of its data, and what it gets: from an array, a file of lines, and something that is read from a cursor.
import assert from "node:assert/strict";
import { test } from "node:test";
import { data, datum, keptRun, tabWith } from "./run-stub.mjs";
import { turn } from "./stub.mjs";

/** A run over these data, and its half of the talk. */
async function running(t, options) {
  const tab = await tabWith(keptRun());
  t.after(() => tab.service.close());
  const run = await tab.service.startRun({ baseModel: "model", batchSize: 1, ...options });
  return { tab, run, ...(await tab.opened()) };
}

const fingerprint = async (t, data) => (await running(t, { data })).args.data.fingerprint;

/** A datum as it crosses, by its tokens. */
const tokens = ({ modelInput, lossFnInputs }) => [
  ...new Int32Array(modelInput[0].tokens.buffer),
  Number(new BigInt64Array(lossFnInputs.target_tokens.data.buffer).at(-1)),
];

const lines = (...rows) => new Blob([rows.join("\n")]);
const line = (...all) => JSON.stringify(datum(...all));

test("rows of an array are made when they are asked for", async (t) => {
  const { ask, args } = await running(t, { data });
  assert.equal(args.data.length, 3);
  const { data: rows } = await ask({ what: "rows", rows: [2, 0] });
  assert.deepEqual(rows.map(tokens), [
    [6, 7, 8, 9],
    [1, 2, 3],
  ]);
});

test("data have the same fingerprint as long as they are the same", async (t) => {
  const first = await fingerprint(t, data);
  assert.equal(await fingerprint(t, structuredClone(data)), first);
  const typed = data.map(({ modelInput, lossFnInputs: { targetTokens } }) => ({
    modelInput: Int32Array.from(modelInput),
    lossFnInputs: { targetTokens: BigInt64Array.from(targetTokens.map(BigInt)) },
  }));
  assert.equal(await fingerprint(t, typed), first, "whatever array the numbers are in");
  const others = [
    [data[1], data[0], data[2]],
    [...data, datum(1, 2)],
    [data[0], data[1], datum(6, 7, 9, 9)],
    // The same bytes, cut elsewhere.
    [datum(1, 2), datum(3, 4, 5), datum(6, 7, 8, 9)],
    [{ ...data[0], lossFnInputs: { ...data[0].lossFnInputs, weights: [1, 1] } }, data[1], data[2]],
  ];
  const all = await Promise.all(others.map((data) => fingerprint(t, data)));
  assert.equal(new Set([first, ...all]).size, 1 + others.length);
});

test("a file's fingerprint does not depend on the pieces in which it is read", async (t) => {
  const { Fingerprint } = await (await tabWith(keptRun())).load("fingerprint");
  const bytes = crypto.getRandomValues(new Uint8Array(1003));
  const whole = new Fingerprint().bytes(bytes).digest();
  for (const size of [1, 2, 3, 5, 64, 1000]) {
    const pieces = new Fingerprint();
    for (let at = 0; at < bytes.length; at += size) pieces.bytes(bytes.subarray(at, at + size));
    assert.equal(pieces.digest(), whole, `in pieces of ${size}`);
  }
  const changed = bytes.slice();
  changed[500] ^= 1;
  assert.notEqual(new Fingerprint().bytes(changed).digest(), whole);
  assert.notEqual(new Fingerprint().bytes(new Uint8Array(3)).digest(), new Fingerprint().digest());
  t.diagnostic(whole);
});

test("a file of lines is read where its rows are", async (t) => {
  const file = lines(line(1, 2, 3), "", `  ${line(4, 5)}\r`, "   ", line(6, 7, 8, 9), "");
  const { ask, args } = await running(t, { data: { file } });
  assert.equal(args.data.length, 3, "lines without anything are no rows");
  const { data: rows } = await ask({ what: "rows", rows: [2, 1] });
  assert.deepEqual(rows.map(tokens), [
    [6, 7, 8, 9],
    [4, 5],
  ]);
});

test("a file's rows are made into datums by the page", async (t) => {
  const file = lines('{ "text": [1, 2] }', '{ "text": [3, 4] }');
  const seen = [];
  const toDatum = ({ text }, number) => {
    seen.push(number);
    return datum(...text);
  };
  const { ask } = await running(t, { data: { file, toDatum } });
  const { data: rows } = await ask({ what: "rows", rows: [1] });
  assert.deepEqual(rows.map(tokens), [[3, 4]]);
  assert.equal(seen.at(-1), 2, "with the number of its line");
});

test("a line that can't be used is told by its number", async (t) => {
  const file = lines(line(1, 2), "", "{ nonsense", line(-1, 2));
  const { ask } = await running(t, { data: { file } });
  const { failure } = await ask({ what: "rows", rows: [1] });
  assert.match(failure, /^line 3 of the file can't be used: it is not JSON .*nonsense/);
  const another = await ask({ what: "rows", rows: [2] });
  assert.match(another.failure, /^line 4 of the file can't be used: datum\.modelInput\[0\] is -1/);
});

test("a file whose first line can't be used starts no run", async (t) => {
  const tab = await tabWith(keptRun());
  t.after(() => tab.service.close());
  const starting = tab.service.startRun({ baseModel: "model", batchSize: 1, data: { file: lines("a,b,c") } });
  await assert.rejects(starting, { code: "invalid_argument", field: "line 1" });
  assert.equal(tab.kept.spec, undefined);
});

test("a file that can't be read any more is another file", async (t) => {
  const file = lines(line(1, 2), line(3, 4));
  const { ask } = await running(t, { data: { file } });
  file.slice = () => ({ text: () => Promise.reject(new Error("NotReadableError")) });
  const { failure, kind } = await ask({ what: "rows", rows: [0] });
  assert.equal(kind, "data_mismatch");
  assert.match(failure, /changed, moved or deleted/);
});

/** Numbers from 0, and a note of each way in and out. */
function counting(length) {
  const notes = [];
  const open = (cursor) => {
    notes.push(`open ${cursor}`);
    let next = cursor ?? 0;
    return {
      [Symbol.asyncIterator]: () => ({
        next: async () => {
          if (next >= length) return { done: true };
          next += 1;
          return { done: false, value: { datum: datum(next, next), cursor: next } };
        },
        return: async () => {
          notes.push("closed");
          return { done: true };
        },
      }),
    };
  };
  return { notes, open };
}

test("a stream is read on from where it is, and opened again elsewhere", async (t) => {
  const { notes, open } = counting(10);
  const { ask, run, args } = await running(t, { data: { open, fingerprint: "numbers" } });
  assert.deepEqual(args.data, { kind: "stream", fingerprint: "numbers" });
  const first = await ask({ what: "stream", count: 2 });
  assert.deepEqual([first.data.map(tokens), first.cursors, first.end], [[[1, 1], [2, 2]], ["1", "2"], false]); // prettier-ignore
  const second = await ask({ what: "stream", cursor: "2", count: 3 });
  assert.deepEqual([second.cursors, second.end], [["3", "4", "5"], false]);
  assert.deepEqual(notes, ["open undefined"]);

  const again = await ask({ what: "stream", cursor: "2", count: 3 });
  assert.deepEqual(again.cursors, second.cursors, "the same again, as after a crash");
  assert.deepEqual(notes, ["open undefined", "open 2", "closed"]);

  const last = await ask({ what: "stream", cursor: "5", count: 9 });
  assert.deepEqual([last.cursors.length, last.end], [5, true]);
  assert.equal(notes.length, 3, "one that has ended need not be closed");

  await ask({ what: "stream", count: 1 });
  await run.close();
  await turn();
  assert.deepEqual(notes.slice(3), ["open undefined", "closed"]);
});

test("what a stream throws, and what it gives that is no datum, is told to the run", async (t) => {
  let fails = async function* () {
    yield { datum: datum(1, 2), cursor: 1 };
    throw new Error("the disk is gone");
  };
  const { ask } = await running(t, { data: { open: () => fails() } });
  assert.match((await ask({ what: "stream", count: 2 })).failure, /the disk is gone/);
  fails = async function* () {
    yield { datum: { modelInput: [] }, cursor: 1 };
  };
  assert.match((await ask({ what: "stream", count: 2 })).failure, /datum\.modelInput has no tokens/);
  fails = async function* () {
    yield { datum: datum(1, 2), cursor: 10n };
  };
  assert.match(
    (await ask({ what: "stream", count: 2 })).failure,
    /^cursor is 10: it takes what JSON can hold/,
  );
  fails = () => [1, 2];
  assert.match((await ask({ what: "stream", count: 2 })).failure, /async iterable/);
});

test("the page has its turn while large data are read", async (t) => {
  const large = Array.from({ length: 20_000 }, (_, i) => datum(...new Array(64).fill(i)));
  const tab = await tabWith(keptRun());
  t.after(() => tab.service.close());
  let turns = 0;
  // A task of the page's own, which asks for its next turn in each.
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => port2.postMessage((turns += 1));
  port2.postMessage(turns);
  await tab.service.startRun({ baseModel: "model", data: large });
  port1.close();
  assert.ok(turns > 10, `${turns} turns`);
});
