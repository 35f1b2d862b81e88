// The clients that a page has, as the owner knows them: each outlives the instances in which it is made again.

import type { MadeSamplingClient, MadeTrainingClient } from "./boundary.js";

export type Made = MadeTrainingClient | MadeSamplingClient;

/** `number`: the living instance's for it, once that has made it. */
export interface Client {
  readonly service: number;
  number?: number;
  /** How it is made again. */
  readonly method: "resumeTrainingClient" | "resumeSamplingClient";
  readonly args: object;
}

/** The owner's own calls have keys from here on down; the page's count from 1. */
const OWN_KEYS = 2 ** 32 - 1;

/** By the number that the page has for them: two instances may give the same number to two clients. */
export class Clients {
  readonly #clients = new Map<number, Client>();
  #last = 0;
  /** Those that are being made again, by the keys of the owner's own calls. */
  readonly #remaking = new Map<number, number>();
  #nextKey = OWN_KEYS;

  /** The page's number for a client that was made; `open`: its service is still there. */
  add(service: number, made: Made, open: boolean): number {
    const number = ++this.#last;
    if (open) {
      const again: Pick<Client, "method" | "args"> =
        "modelId" in made
          ? { method: "resumeTrainingClient", args: { modelId: made.modelId } }
          : { method: "resumeSamplingClient", args: { samplingSessionId: made.samplingSessionId } };
      this.#clients.set(number, { service, number: made.client, ...again });
    }
    return number;
  }

  get(number: number): Client | undefined {
    return this.#clients.get(number);
  }

  has(number: number): boolean {
    return this.#clients.has(number);
  }

  delete(number: number): void {
    this.#clients.delete(number);
  }

  deleteOf(service: number): void {
    for (const [number, client] of this.#clients) if (client.service === service) this.delete(number);
  }

  /** The instance that had them has died. */
  lose(): void {
    this.#remaking.clear();
    for (const client of this.#clients.values()) delete client.number;
  }

  /** Those that this instance has not made yet. */
  missing(): [number: number, client: Client][] {
    return [...this.#clients].filter(([, { number }]) => number === undefined);
  }

  /** The key of the call by which it is made again. */
  remake(number: number): number {
    const key = this.#nextKey--;
    this.#remaking.set(key, number);
    return key;
  }

  isRemaking(key: number): boolean {
    return this.#remaking.has(key);
  }

  /** The client that this call was to make again; it has been answered. */
  remade(key: number): number {
    const number = this.#remaking.get(key) ?? 0;
    this.#remaking.delete(key);
    return number;
  }
}
