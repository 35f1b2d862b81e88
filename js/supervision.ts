// The supervision tree as the page sees it, and those who listen to it.

import type { SupervisionRow } from "./boundary.js";
import type { SupervisionListener, SupervisionNode } from "./types.js";

/** Rows as a tree; each row stands after its parent's. Undefined where nothing runs any more. */
export function treeOf(rows: readonly SupervisionRow[]): SupervisionNode | undefined {
  const nodes = new Map<number, SupervisionNode>();
  let root: SupervisionNode | undefined;
  for (const { parent, waitsFor, waitsMs, queues, ...rest } of rows) {
    const node: SupervisionNode = {
      ...rest,
      ...(waitsFor !== undefined && { waits: { for: waitsFor, ms: waitsMs ?? 0 } }),
      queues: Object.fromEntries(queues.map(({ name, length }) => [name, length])),
      children: [],
    };
    nodes.set(node.id, node);
    if (parent === undefined) root ??= node;
    else nodes.get(parent)?.children.push(node);
  }
  return root;
}

/** Those who listen, by service. */
export class Listeners {
  readonly #listeners = new Map<number, Set<SupervisionListener>>();

  add(service: number, listener: SupervisionListener): void {
    const of = this.#listeners.get(service) ?? new Set();
    this.#listeners.set(service, of.add(listener));
  }

  /** Whether nobody listens any more, now that this one is gone. */
  delete(service: number, listener: SupervisionListener): boolean {
    const of = this.#listeners.get(service);
    if (!of?.delete(listener) || of.size) return false;
    return this.#listeners.delete(service);
  }

  forget(service: number): void {
    this.#listeners.delete(service);
  }

  /** In a microtask of its own for each: a listener is the user's code. */
  tell(service: number, rows: readonly SupervisionRow[]): void {
    const of = this.#listeners.get(service);
    const tree = treeOf(rows);
    if (!of || !tree) return;
    for (const listener of of) queueMicrotask(() => of.has(listener) && listener(tree));
  }
}
