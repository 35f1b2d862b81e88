// The supervision tree as lines of a table. Tasks of one name under one supervisor, be it with other numbers, are one line:
// calls come and go many times a second, and lines that did the same could not be read.
import type { SupervisionNode } from "tinkex";

export interface Line {
  /** Stays the same while the line does, for the table to move nothing that need not move. */
  key: string;
  depth: number;
  /** The oldest, where there are several. */
  process: SupervisionNode;
  /** How many processes this line stands for. */
  count: number;
  /** Whether there are lines below it; `folded` ones aren't given. */
  parent: boolean;
  folded: boolean;
}

export interface Totals {
  processes: number;
  tasks: number;
  restarts: number;
}

/** Each line after its supervisor's. `folded` are the keys of the lines whose children aren't shown. */
export function linesOf(tree: SupervisionNode, folded: ReadonlySet<string>): Line[] {
  const lines: Line[] = [];
  const keys = new Set<string>();
  const visit = (process: SupervisionNode, count: number, path: string, depth: number): void => {
    // Two clients of one checkpoint have one name.
    const key = keys.has(path) ? `${path}#${process.id}` : path;
    keys.add(key);
    const parent = process.children.length > 0;
    const isFolded = folded.has(key);
    lines.push({ key, depth, process, count, parent, folded: isFolded });
    if (isFolded) return;
    const tasks = new Map<string, SupervisionNode[]>();
    for (const child of process.children) {
      if (child.kind !== "task") visit(child, 1, `${key}/${child.name}`, depth + 1);
      else {
        const name = child.name.replace(/ \d+$/, "");
        tasks.set(name, [...(tasks.get(name) ?? []), child]);
      }
    }
    for (const [name, same] of [...tasks].sort(([one], [other]) => one.localeCompare(other))) {
      const oldest = same.reduce((one, other) => (other.id < one.id ? other : one));
      visit(oldest, same.length, `${key}/${name}`, depth + 1);
    }
  };
  visit(tree, 1, tree.name, 0);
  return lines;
}

export function totalsOf(tree: SupervisionNode): Totals {
  const totals = { processes: 0, tasks: 0, restarts: 0 };
  const visit = ({ kind, restarts, children }: SupervisionNode): void => {
    if (kind === "task") totals.tasks += 1;
    else totals.processes += 1;
    totals.restarts += restarts;
    children.forEach(visit);
  };
  visit(tree);
  return totals;
}

/** Queues that hold something, as “2 queued, 3 running”. */
export function queuesOf({ queues }: SupervisionNode): string {
  return Object.entries(queues)
    .filter(([, length]) => length > 0)
    .map(([name, length]) => `${length} ${name}`)
    .join(", ");
}
