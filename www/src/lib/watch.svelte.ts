// The supervision tree of a service, live while somebody can see it: not on a page that is hidden.
import type { ServiceClient, SupervisionNode } from "tinkex";

/** How often what is shown is brought up to date, in ms: what changes faster can't be read. */
const TICK = 500;

export class Watch {
  readonly #service: ServiceClient;
  tree = $state.raw<SupervisionNode | null>(null);
  /** Time since the tree was like this, in ms: to be added to each of its times. */
  since = $state(0);
  #latest: { tree: SupervisionNode; heardAt: number } | undefined;

  constructor(service: ServiceClient) {
    this.#service = service;
  }

  /** Gives the function that ends it. */
  start(): () => void {
    let end: (() => void) | undefined;
    const see = () => {
      end?.();
      end = document.hidden ? undefined : this.#listen();
    };
    document.addEventListener("visibilitychange", see);
    see();
    return () => {
      document.removeEventListener("visibilitychange", see);
      end?.();
    };
  }

  #listen(): () => void {
    const unsubscribe = this.#service.on("supervision", (tree) => {
      this.#latest = { tree, heardAt: performance.now() };
      if (!this.tree) this.#show();
    });
    const ticking = setInterval(() => this.#show(), TICK);
    return () => {
      clearInterval(ticking);
      unsubscribe();
    };
  }

  #show(): void {
    if (!this.#latest) return;
    this.tree = this.#latest.tree;
    this.since = performance.now() - this.#latest.heardAt;
  }
}
