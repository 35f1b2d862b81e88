// Looks into the code that binaryen has read.
import binaryen from "binaryen";

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
    TableSet: ["Index", "Value"],
    TableGet: ["Index"],
    TableGrow: ["Value", "Delta"],
  }).map(([kind, parts]) => [binaryen[`${kind}Id`], parts.map((part) => binaryen[kind][`get${part}`])]),
);

/** The expression and all in it, each before what is in it. */
export function inside(expression) {
  const found = [];
  const visit = (part) => {
    found.push(part);
    for (const get of partsOf.get(binaryen.getExpressionId(part)) ?? [])
      for (const child of [get(part)].flat()) if (child) visit(child);
  };
  visit(expression);
  return found;
}
