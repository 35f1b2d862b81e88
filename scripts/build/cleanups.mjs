// Lets a panic leave memory behind. Where one unwinds through a function, a cleanup drops what the function owns. Of what is
// memory and nothing else it makes code only: a panic is a defect of this package, whatever had it begins anew, a few times at
// most, and what a few frames had in memory is less than the code that frees it. All else is dropped as ever: what counts, what
// somebody waits for, and whatever a process has when it is dropped itself.
import binaryen from "binaryen";
import { inside } from "./expressions.mjs";
import { functionsOf } from "./split.mjs";

const { Binary, Block, If, Loop, Try, getExpressionId: idOf } = binaryen;
const acting = kinds("CallIndirect", "Store", "Throw", "MemoryGrow", "MemoryCopy", "MemoryFill");
const keptInCleanups = kinds("Call", "LocalSet", "Return", "Switch");
const labelled = kinds("Block", "Loop");

/** Takes out of all cleanups what only frees memory, and the cleanups that have nothing else. */
export function leaveMemory(module) {
  const functions = functionsOf(binaryen, module)
    .filter(({ module: from }) => !from)
    .map(({ name, body }) => ({ name, body, all: inside(body) }));
  const freeing = thoseThatFree(functions);
  const unlessFreeing = (statement) => (calls(statement, freeing) ? module.nop() : statement);
  const unlessEmpty = (statement) => withoutCleanup(statement);
  for (const { name, body, all } of functions) {
    for (const cleanup of all.flatMap((expression) => cleanupOf(expression) ?? []))
      for (const part of inside(cleanup)) replaceStatements(part, unlessFreeing);
    // Those inside of others first.
    for (const part of all.toReversed()) replaceStatements(part, unlessEmpty);
    const other = unlessEmpty(body);
    if (other !== body) binaryen.Function.setBody(module.getFunction(name), other);
  }
}

const dealloc = /\bTlsf<.*>::deallocate$/;
/**
 * Drops what may be one of several `Rc`s, and nothing that is borrowed. That it is one fewer shows nowhere: nobody asks how many
 * there are, see clippy.toml.
 */
const shares = /drop_glue::<(?!.*cell(\[\w+\])?::Ref(Mut)?<)|::rc::Rc<.*>>::drop_slow$/;

/** The names of the functions that free memory and do nothing besides that could be seen. */
function thoseThatFree(functions) {
  const names = functions.map(({ name }) => name);
  for (const known of [dealloc, shares])
    if (!names.some((name) => known.test(name)))
      throw new Error(`no function is called ${known} any more: see scripts/build/cleanups.mjs`);
  const freeing = new Set(names.filter((name) => dealloc.test(name)));
  const isSeen = (part, name) => acts(part) && !(shares.test(name) && takesOne(part));
  const others = functions.filter(({ name, all }) => !all.some((part) => isSeen(part, name)));
  for (let before = 0; before < freeing.size;) {
    before = freeing.size;
    for (const { name, all } of others) {
      const calling = all.filter((part) => idOf(part) === binaryen.CallId);
      const known = (call) => binaryen.Call.getTarget(call) === name || calls(call, freeing);
      if (calling.length > 0 && calling.every(known)) freeing.add(name);
    }
  }
  return freeing;
}

/** What is seen outside of its function, calls of known functions apart. */
const acts = (expression) => acting.has(idOf(expression));

/** Whether it counts one off: `place = place - 1`, or `+ -1`. */
function takesOne(expression) {
  if (idOf(expression) !== binaryen.StoreId) return false;
  const value = binaryen.Store.getValue(expression);
  const sum = idOf(value) === binaryen.LocalSetId ? binaryen.LocalSet.getValue(value) : value;
  if (idOf(sum) !== binaryen.BinaryId || idOf(Binary.getLeft(sum)) !== binaryen.LoadId) return false;
  const by = Binary.getRight(sum);
  if (idOf(by) !== binaryen.ConstId) return false;
  const one = { [binaryen.SubInt32]: 1, [binaryen.AddInt32]: -1 }[Binary.getOp(sum)];
  return binaryen.Const.getValueI32(by) === one;
}

function calls(expression, names) {
  const isCall = idOf(expression) === binaryen.CallId;
  return isCall && names.has(binaryen.Call.getTarget(expression));
}

/** What is done before a panic goes on to whoever called. */
function cleanupOf(expression) {
  if (idOf(expression) !== binaryen.TryId) return undefined;
  if (!Try.hasCatchAll(expression)) return undefined;
  const bodies = Try.getCatchBodies(expression);
  const goesOn = (part) => idOf(part) === binaryen.RethrowId;
  return bodies.length === 1 && inside(bodies[0]).some(goesOn) ? bodies[0] : undefined;
}

/** What stands for a statement: for a try whose cleanup does nothing any more what is tried, else itself. */
function withoutCleanup(statement) {
  const cleanup = cleanupOf(statement);
  if (cleanup === undefined) return statement;
  const parts = inside(cleanup);
  const labels = new Set(parts.filter((part) => labelled.has(idOf(part))).map(labelOf));
  const leaves = (part) => idOf(part) === binaryen.BreakId && !labels.has(binaryen.Break.getName(part));
  // What it sets, the cleanups around it may ask for.
  if (parts.some((part) => acts(part) || leaves(part) || keptInCleanups.has(idOf(part)))) return statement;
  const [name, body] = [Try.getName(statement), Try.getBody(statement)];
  const leadsHere = (part) => idOf(part) === binaryen.TryId && Try.getDelegateTarget(part) === name;
  return name && inside(body).some(leadsHere) ? statement : body;
}

const labelOf = (part) => (idOf(part) === binaryen.BlockId ? Block.getName(part) : Loop.getName(part));

/** Puts in the place of each statement directly in `expression` what `by` gives for it. */
function replaceStatements(expression, by) {
  const replace = (statement, set) => {
    const other = statement ? by(statement) : statement;
    if (other !== statement) set(other);
  };
  switch (idOf(expression)) {
    case binaryen.BlockId:
      Block.getChildren(expression).forEach((child, i) =>
        replace(child, (other) => Block.setChildAt(expression, i, other)),
      );
      break;
    case binaryen.IfId:
      replace(If.getIfTrue(expression), (other) => If.setIfTrue(expression, other));
      replace(If.getIfFalse(expression), (other) => If.setIfFalse(expression, other));
      break;
    case binaryen.LoopId:
      replace(Loop.getBody(expression), (other) => Loop.setBody(expression, other));
      break;
    case binaryen.TryId:
      replace(Try.getBody(expression), (other) => Try.setBody(expression, other));
      Try.getCatchBodies(expression).forEach((child, i) =>
        replace(child, (other) => Try.setCatchBodyAt(expression, i, other)),
      );
  }
}

/** Kinds of expressions, as binaryen numbers them. */
function kinds(...names) {
  return new Set(names.map((name) => binaryen[`${name}Id`]));
}
