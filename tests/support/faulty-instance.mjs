// Takes the place of `pkg/instance.js` in pages whose client is to panic: the instances of the build with faults.
import { createInstance as create } from "tinkex-faulty";

let latest;

export const createInstance = (globals) => (latest = create(globals));

/** The `nth` passage from now of a place panics, of the processes whose path in the tree has `within` in it. */
export const arm = (place, within, nth) => latest.arm(place, within, nth);

/** How many faults are armed and have not struck. */
export const armed = () => latest.armed();
