// Lets a panic leave memory behind. Where one unwinds through a function, a cleanup drops what the function owns. Of what is
// memory and nothing else it makes code only: a panic is a defect of this package, whatever had it begins anew, a few times at
// most, and what a few frames had in memory is less than the code that frees it. All else is dropped as ever: what counts, what
// somebody waits for, and whatever a process has when it is dropped itself.
import binaryen from "binaryen";
import { functionsOf } from "./split.mjs";

const { Block, If, Loop, Try, getExpressionId: idOf } = binaryen;
const acting = kinds("CallIndirect", "Store", "Throw", "MemoryGrow", "MemoryCopy", "MemoryFill");
const keptInCleanups = kinds("Call", "LocalSet", "Return");

/** By its kind, what gives the parts of an expression. */
const partsOf = new Map(
  Object.entries({
    Block: ["Children"],
    If: ["Condition", "IfTrue", "IfFalse"],
    Loop: ["Body"],
    Try: ["Body", "CatchBodies"],
    Break: ["Condition", "Value"],
    Switch: ["Condition", "Value"],
    Call: ["Operands"],
    CallIndirect: ["Target", "Operands"],
    LocalSet: ["Value"],
    GlobalSet: ["Value"],
    Load: ["Ptr"],
    Store: ["Ptr", "Value"],
    Unary: ["Value"],
    Binary: ["Left", "Right"],
    Select: ["Condition", "IfTrue", "IfFalse"],
    Drop: ["Value"],
    Return: ["Value"],
    Throw: ["Operands"],
    MemoryGrow: ["Delta"],
    MemoryCopy: ["Dest", "Source", "Size"],
    MemoryFill: ["Dest", "Value", "Size"],
  }).map(([kind, parts]) => [binaryen[`${kind}Id`], parts.map((part) => binaryen[kind][`get${part}`])]),
);

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

/** The names of the functions that free memory and do nothing besides that could be seen. */
function thoseThatFree(functions) {
  const freeing = new Set(functions.map(({ name }) => name).filter((name) => /\b__rust_dealloc$/.test(name)));
  if (freeing.size !== 1)
    throw new Error("there is no one `__rust_dealloc` any more: see scripts/build/cleanups.mjs");
  const others = functions.filter(({ all }) => !all.some((part) => acts(part)));
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
  // What it sets, the cleanups around it may ask for.
  const matters = (part) => acts(part) || keptInCleanups.has(idOf(part));
  if (inside(cleanup).some(matters)) return statement;
  const [name, body] = [Try.getName(statement), Try.getBody(statement)];
  const leadsHere = (part) => idOf(part) === binaryen.TryId && Try.getDelegateTarget(part) === name;
  return name && inside(body).some(leadsHere) ? statement : body;
}

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

/** The expression and all in it, each before what is in it. */
function inside(expression) {
  const found = [];
  const visit = (part) => {
    found.push(part);
    for (const get of partsOf.get(idOf(part)) ?? [])
      for (const child of [get(part)].flat()) if (child) visit(child);
  };
  visit(expression);
  return found;
}

/** Kinds of expressions, as binaryen numbers them. */
function kinds(...names) {
  return new Set(names.map((name) => binaryen[`${name}Id`]));
}
