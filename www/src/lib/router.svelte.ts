// Which page is shown, from the address's hash, so that a link and the back button work without a server's help.
import type { Component } from "svelte";

export interface Route {
  /** What stands after `#/`. */
  path: string;
  title: string;
  page: Component;
}

/** The route of the address, kept up to date. Falls back to the first one. */
export class Router {
  readonly routes: readonly [Route, ...Route[]];
  #path = $state("");

  constructor(routes: readonly [Route, ...Route[]]) {
    this.routes = routes;
    const read = () => (this.#path = location.hash.replace(/^#\//, ""));
    addEventListener("hashchange", read);
    read();
  }

  get current(): Route {
    return this.routes.find(({ path }) => path === this.#path) ?? this.routes[0];
  }
}
