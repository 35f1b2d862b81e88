// The build's promises: it skips what is up to date and nothing else, gives each instance a glue of its own, and asks of the
// source no more than that has.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { test } from "node:test";
import binaryen from "binaryen";
import { leaveMemory } from "../../scripts/build/cleanups.mjs";
import { partData } from "../../scripts/build/data.mjs";
import { withoutRelocations } from "../../scripts/build/relocations.mjs";
import { forget, step } from "../../scripts/build/fresh.mjs";
import { buildGlue, shadowed } from "../../scripts/build/glue.mjs";
import { callImportsDirectly } from "../../scripts/build/imports.mjs";
import { root } from "../../scripts/paths.mjs";

test("a step is run again when an input, a setting or an output changed, and only then", async (t) => {
  const folder = temporary(t);
  const file = (name) => relative(root, join(folder, name));
  const name = `test-${process.pid}`;
  t.after(() => forget(name));
  mkdirSync(join(folder, "in"));
  writeFileSync(join(folder, "in", "a"), "1");
  let runs = 0;
  const build = (settings = "") =>
    step(name, { inputs: [file("in")], outputs: [file("out")], settings }, () => {
      runs += 1;
      writeFileSync(join(folder, "out"), "");
    });
  const isRun = async (settings) => {
    const before = runs;
    await build(settings);
    return runs > before;
  };

  assert.equal(await isRun(), true);
  assert.equal(await isRun(), false);
  writeFileSync(join(folder, "in", "a"), "2");
  assert.equal(await isRun(), true, "a changed file");
  writeFileSync(join(folder, "in", "b"), "");
  assert.equal(await isRun(), true, "a new file, though it is empty");
  assert.equal(await isRun("faster"), true, "another setting");
  rmSync(join(folder, "out"));
  assert.equal(await isRun("faster"), true, "an output that is gone");
  assert.equal(await isRun("faster"), false);
});

test("a step that failed is run again", async (t) => {
  const folder = temporary(t);
  const output = relative(root, join(folder, "out"));
  const name = `test-failing-${process.pid}`;
  t.after(() => forget(name));
  const failing = () => {
    writeFileSync(join(folder, "out"), "half");
    throw new Error("no");
  };
  await assert.rejects(step(name, { inputs: [], outputs: [output] }, failing), /no/);
  let isRun = false;
  await step(name, { inputs: [], outputs: [output] }, () => (isRun = true));
  assert.ok(isRun);
});

test("no panic leaves a destructor of the wasm, where it would end the instance", () => {
  // Of what is compiled into it, only these have destructors that could panic; `virtual_time.rs` is for native tests.
  const files = ["src", "crates/supervise/src", "crates/journal/src", "crates/protocol/src"].flatMap(
    (folder) => readdirSync(join(root, folder), { recursive: true }).map((file) => join(root, folder, file)),
  );
  for (const file of files.filter((file) => file.endsWith(".rs") && !file.endsWith("virtual_time.rs")))
    for (const [implementation, body] of readFileSync(file, "utf8").matchAll(
      /^.* Drop for [^{]+\{\s*fn drop\(&mut self\) \{\s*(\w+)/gm,
    ))
      assert.equal(body, "destructor", `${file}: ${implementation}`);
});

test("each instance has a glue of its own, which takes its host and its timers from its owner", async (t) => {
  const folder = temporary(t);
  const glue = join(folder, "glue.js");
  writeFileSync(
    glue,
    `let wasm;
     export function initSync(made) { wasm = made; }
     export const current = () => wasm;
     export const later = (f) => setTimeout(f, 5);
     export const say = (what) => host.hear(what);
     export default function load(url) { return fetch(url ?? new URL("glue.wasm", import.meta.url)); }`,
  );
  const out = join(folder, "instance.mjs");
  await buildGlue(glue, out);
  const { createInstance } = await import(pathToFileURL(out));
  const globals = Object.fromEntries(shadowed.map((name) => [name, globalThis[name]]));
  const timers = [];
  const heard = [];
  const one = createInstance({}, { ...globals, setTimeout: (f, ms) => timers.push([f, ms]) });
  const two = createInstance({ hear: (what) => heard.push(what) }, globals);
  one.initSync("one");
  two.initSync("two");
  assert.deepEqual([one.current(), two.current()], ["one", "two"]);
  one.later(t.mock.fn());
  assert.equal(timers[0][1], 5);
  two.say("hello");
  assert.deepEqual(heard, ["hello"]);
  assert.ok(!("default" in one), "the loader of wasm-bindgen is left out: the owner loads");
});

test("glue that would need eval is refused", async (t) => {
  const folder = temporary(t);
  writeFileSync(join(folder, "glue.js"), `export const run = (text) => new Function(text)();`);
  await assert.rejects(buildGlue(join(folder, "glue.js"), join(folder, "instance.mjs")), /new Function/);
});

test("a panic leaves memory behind, and still drops what does more than free it", () => {
  const cleanup = (drops) => `(try $t (do (call $work)) (catch_all ${drops} (rethrow $t)))`;
  const free = "(call $free (local.get 0))";
  const dropping = (type) => `$core::ptr::drop_glue::<${type}>`;
  const shared = dropping("core::option::Option<alloc::rc::Rc<str>>");
  const borrowed = dropping("core::cell::Ref<alloc::string::String>");
  const guarding = dropping("tinkex::Guard");
  const oneFewer = "(i32.store (local.get 0) (i32.sub (i32.load (local.get 0)) (i32.const 1)))";
  const module = binaryen.parseText(`(module
    (import "js" "work" (func $work))
    (memory 1)
    (func $<rlsf::tlsf::Tlsf<usize>>::deallocate (param i32) (i32.store (i32.const 0) (local.get 0)))
    (func $free (param i32) (if (local.get 0) (then (call $<rlsf::tlsf::Tlsf<usize>>::deallocate (local.get 0)))))
    (func ${shared} (param i32) ${oneFewer} ${free})
    (func ${borrowed} (param i32) ${oneFewer} ${free})
    (func ${guarding} (param i32) (i32.store (local.get 0) (i32.const 1)) ${free})
    (func $tell (param i32) (i32.store (i32.const 8) (local.get 0)))
    (func $memory (param i32) ${cleanup(free)})
    (func $one_of_several (param i32) ${cleanup(`(call ${shared} (local.get 0))`)})
    (func $borrow (param i32) ${cleanup(`(call ${borrowed} (local.get 0))`)})
    (func $guard (param i32) ${cleanup(`(call ${guarding} (local.get 0))`)})
    (func $both (param i32) ${cleanup(`${free} (call $tell (local.get 0))`)})
    (func $nested (param i32) (try $o (do ${cleanup(free)}) (catch_all ${free} (rethrow $o))))
    (func $asked (param i32) (local i32)
      (try $o (do ${cleanup("(local.set 1 (i32.const 1))")}) (catch_all (call $tell (local.get 1)) (rethrow $o))))
    (func $no_panic (param i32) (call $work) ${free}))`);
  module.setFeatures(binaryen.Features.All);
  leaveMemory(module);
  assert.ok(module.validate());
  const text = (name) => binaryen.emitText(binaryen.getFunctionInfo(module.getFunction(name)).body);
  for (const name of ["memory", "one_of_several", "nested"])
    assert.match(text(name), /^\(call \$work\)\s*$/, name);
  for (const name of ["borrow", "guard"]) assert.match(text(name), /catch_all[^]*drop_glue/, name);
  assert.doesNotMatch(text("both"), /\$free/);
  assert.match(text("both"), /catch_all[^]*\$tell/);
  assert.equal(text("asked").match(/catch_all/g).length, 2, "what one cleanup sets, the next asks for");
  assert.match(text("no_panic"), /\$free/);
});

test("imports are called directly, and what came before `globalThis` is not asked for", () => {
  const wrapper = (name) => `(func $"${name} catch wrapper" (param i32) (result i32)
    (try (result i32) (do (call $"${name}" (local.get 0))) (catch_all (unreachable))))`;
  const names = ["fetch", "js_sys::global::get_global_object::SELF::init"];
  const module = binaryen.parseText(`(module
    ${names.map((name) => `(import "js" "${name}" (func $"${name}" (param i32) (result i32)))`).join("\n")}
    (global $zero i32 (i32.const 0))
    (export "__instance_terminated" (global $zero))
    (export "__abort_handler" (global $zero))
    ${names.map(wrapper).join("\n")})`);
  module.setFeatures(binaryen.Features.All);
  callImportsDirectly(module);
  assert.ok(module.validate());
  assert.equal(module.getNumExports(), 0);
  const [fetch, self] = names.map((name) =>
    binaryen.emitText(binaryen.getFunctionInfo(module.getFunction(`${name} catch wrapper`)).body),
  );
  assert.match(fetch, /^\(call \$fetch\s+\(local.get \$0\)\s*\)\s*$/);
  assert.match(self, /^\(i32.const 0\)\s*$/);
  assert.throws(() => callImportsDirectly(module), /does not wrap imports/);
});

test("data go with the file whose code points to them, and stay where both do", () => {
  const file = (body) => {
    const module = binaryen.parseText(`(module
      (memory $m 1)
      (data (i32.const 1024) "shared  ")
      (data (i32.const 1032) "\\18\\04\\00\\00")
      (data (i32.const 1036) "hers")
      (data (i32.const 1040) "its text")
      (data (i32.const 1048) "pointed ")
      (data (i32.const 1056) "nobody's")
      (export "f" (func $f))
      (func $f (result i32) ${body}))`);
    module.setFeatures(binaryen.Features.All);
    return module;
  };
  const first = file("(i32.add (i32.const 1026) (i32.load offset=1036 (i32.const 0)))");
  const second = file(
    "(i32.add (i32.const 1024) (i32.add (i32.const 1032) (i32.load8_u offset=1041 (i32.const 0))))",
  );
  partData(first, second, "m");
  const dataOf = (module) => {
    assert.ok(module.validate());
    return Array.from({ length: module.getNumDataSegments() }, (_, i) => {
      const { offset, data } = module.getDataSegmentInfo(module.getDataSegmentByIndex(i));
      return [offset, String.fromCharCode(...new Uint8Array(data))];
    });
  };
  assert.deepEqual(dataOf(first), [[1024, "shared  \0\0\0\0hers"]]);
  assert.deepEqual(dataOf(second), [
    [1032, "\x18\x04\0\0"],
    [1040, "its textpointed "],
  ]);
});

test("an address outside of its constant is refused, since nobody could tell then which file needs the constant", () => {
  const text = (words) => [words.length, ...Buffer.from(words)];
  const section = (name, ...content) => {
    const bytes = [...text(name), ...content.flat()];
    return [0, bytes.length, ...bytes];
  };
  const header = [0, 97, 115, 109, 1, 0, 0, 0];
  const other = section("other", 7);
  const linked = (addend) => {
    // A function without a name, and a constant of 4 bytes.
    const symbols = [2, [0, 0x10, 0], [1, 0, ...text("table"), 0, 0, 4]].flat();
    const linking = section("linking", 2, 8, symbols.length, symbols);
    const relocations = section("reloc.CODE", 3, 2, [0, 1, 0], [4, 9, 1, addend & 127]);
    return Buffer.from([...header, ...linking, ...other, ...relocations]);
  };
  for (const addend of [0, 3, 4]) {
    assert.deepEqual([...withoutRelocations(linked(addend))], [...header, ...other]);
  }
  for (const addend of [-1, 5]) {
    assert.throws(() => withoutRelocations(linked(addend)), {
      message: new RegExp(`${addend} bytes from table`),
    });
  }
  assert.throws(() => withoutRelocations(Buffer.from([...header, ...other])), /no relocations/);
});

function temporary(t) {
  const folder = mkdtempSync(join(tmpdir(), "tinkex-build-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
