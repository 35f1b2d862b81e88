// What a seed decides, and what is made of many times.

/** The same numbers between 0 and 1 for the same seed (mulberry32). */
export function numbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole number from 1 to `most`. */
export const upTo = (most, random) => 1 + Math.floor(random() * most);

export function shuffled(values, random) {
  return values
    .map((value) => [random(), value])
    .sort(([a], [b]) => a - b)
    .map(([, value]) => value);
}

/** p50 and p95 of times in ms, in words; nothing where there are none. */
export function quantiles(times) {
  if (times.length === 0) return "";
  const sorted = times.toSorted((a, b) => a - b);
  const [p50, p95] = [0.5, 0.95].map((part) => Math.round(sorted[Math.floor((sorted.length - 1) * part)]));
  return `${p50} and ${p95} ms`;
}
