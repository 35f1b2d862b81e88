// Takes the place of `pkg/instance.js` in pages whose client is to panic: the instances of the build with faults.
import { createInstance as create } from "tinkex-faulty";

let latest;
let made = 0;

export const createInstance = (globals) => {
  made += 1;
  return (latest = create(globals));
};

/** The `nth` passage from now of a place panics, of the processes whose path in the tree has `within` in it. */
export const arm = (place, within, nth) => latest.arm(place, within, nth);

/** As `arm`, and what strikes is a trap, which ends the instance. */
export const armTrap = (place, within, nth) => latest.arm_trap(place, within, nth);

/** How many instances were made. */
export const lives = () => made;

/** How many faults are armed and have not struck. */
export const armed = () => latest.armed();
