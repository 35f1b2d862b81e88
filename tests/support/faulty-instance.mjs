// Takes the place of `pkg/instance.js` in pages whose client is to panic: the instances of the build with faults. Where they
// live in a worker, this module is there as well, and the page's has it do what the page is asked for.
import { createInstance as create } from "tinkex-faulty";

let latest;
let made = 0;
let skipped = 0;

const inWorker = globalThis.document === undefined && globalThis.process === undefined;
const channel = globalThis.document || inWorker ? new BroadcastChannel("faults") : undefined;
/** What the page waits for, in the order in which it asked. */
const waiting = [];

if (channel && inWorker) {
  channel.onmessage = ({ data: [name, ...args] }) => {
    if (name === "skip") skipped += args[0];
    const answer = name === "skip" ? undefined : latest[name](...args);
    channel.postMessage({ answer });
  };
} else if (channel) {
  channel.onmessage = ({ data }) => {
    if (data === "made") made += 1;
    else waiting.shift()(data.answer);
  };
}

export const createInstance = (...given) => {
  made += 1;
  if (inWorker) channel.postMessage("made");
  return (latest = create(...given));
};

/** The `nth` passage from now of a place panics, of the processes whose path in the tree has `within` in it. */
export const arm = (place, within, nth) => told("arm", place, within, nth);

/** As `arm`, and what strikes is a trap, which ends the instance. */
export const armTrap = (place, within, nth) => told("arm_trap", place, within, nth);

/** Clocks go ahead by so many ms, the page's and the instance's. */
export const skip = (ms) => {
  skipped += ms;
  return latest ? undefined : told("skip", ms);
};
const now = performance.now.bind(performance);
performance.now = () => now() + skipped;

/** How many instances were made. */
export const lives = () => made;

/** How many faults are armed and have not struck. */
export const armed = () => told("armed");

/** In a worker it is done when this has resolved, and here at once. */
function told(name, ...args) {
  if (latest) return latest[name](...args);
  return new Promise((resolve) => {
    waiting.push(resolve);
    channel.postMessage([name, ...args]);
  });
}
