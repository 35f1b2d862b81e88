// Which page is shown, from the address's hash, so that a link and the back button work without a server's help.
import type { Component } from "svelte";

export interface Route {
  /** What stands after `#/`, first. */
  path: string;
  title: string;
  page: Component;
  /** The page of one of its things, which the address names behind the path: `runs/7`. */
  detail?: Component<{ id: string }>;
}

/** The route of the address, kept up to date. Falls back to the first one. */
export class Router {
  readonly routes: readonly [Route, ...Route[]];
  #path = $state("");

  constructor(routes: readonly [Route, ...Route[]]) {
    this.routes = routes;
    const read = () => (this.#path = location.hash.replace(/^#\//, ""));
    addEventListener("hashchange", () => {
      read();
      // Another page begins at its top, as it would if a server had sent it.
      scrollTo(0, 0);
    });
    read();
  }

  get current(): Route {
    return this.routes.find(({ path }) => path === this.#path.split("/")[0]) ?? this.routes[0];
  }

  /** Which of its things the route shows; null for all of them. */
  get id(): string | null {
    const [, id] = this.#path.split("/");
    return id && this.current.detail ? decodeURIComponent(id) : null;
  }
}

/** The address of a run's page, as a link has it. */
export function runHref(id: string): string {
  return `#/runs/${encodeURIComponent(id)}`;
}
