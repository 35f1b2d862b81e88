// What the pages that are measured have in common.

/** `length` tokens to train on, drawn anew. */
export function datum(length) {
  const tokens = Array.from({ length: length + 1 }, () => 1 + Math.floor(Math.random() * 200));
  return { modelInput: tokens.slice(0, -1), lossFnInputs: { targetTokens: tokens.slice(1) } };
}

/** Milliseconds that the work takes. */
export async function timed(work) {
  const began = performance.now();
  await work();
  return performance.now() - began;
}
