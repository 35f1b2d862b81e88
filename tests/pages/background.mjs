// A tab with a training run, as tests/pages/runs.mjs has it, and a chain of plain timers beside it that says how the browser treats
// those. tests/background.test.mjs hides it.
import "./runs.mjs";

const EVERY = 100; // ms

globalThis.plain = { ticks: 0, every: EVERY };
(function tick() {
  setTimeout(() => {
    globalThis.plain.ticks += 1;
    tick();
  }, EVERY);
})();
