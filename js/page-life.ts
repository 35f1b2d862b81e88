// What happens to a page: it is hidden, put aside (frozen, or kept for its history), and comes back; its network goes and
// comes. Other runtimes have no pages, and nothing of it happens there.

export interface PageListener {
  /** It may be seen no more, and still runs. */
  hidden?(): void;
  /** It is about to stop: `kept`, and may come back, or for good. */
  away?(kept: boolean): void;
  /** It runs again. */
  back?(): void;
  /** The browser has changed its mind about the network: `isOnline` tells. */
  network?(): void;
}

/** Until the function that it gives is called. */
export function watchPage(listener: PageListener): () => void {
  const { document } = globalThis as { document?: Document };
  if (!document) return () => undefined;
  const heard: [target: EventTarget, type: string, handler: (event: Event) => void][] = [
    [document, "visibilitychange", () => document.visibilityState === "hidden" && listener.hidden?.()],
    [document, "freeze", () => listener.away?.(true)],
    [document, "resume", () => listener.back?.()],
    // No `unload`: a page that listens to it is never kept.
    [globalThis, "pagehide", (event) => listener.away?.((event as PageTransitionEvent).persisted)],
    [globalThis, "pageshow", (event) => (event as PageTransitionEvent).persisted && listener.back?.()],
    [globalThis, "online", () => listener.network?.()],
    [globalThis, "offline", () => listener.network?.()],
  ];
  for (const [target, type, handler] of heard) target.addEventListener(type, handler);
  return () => {
    for (const [target, type, handler] of heard) target.removeEventListener(type, handler);
  };
}

/** As far as the browser knows. */
export function isOnline(): boolean {
  return globalThis.navigator?.onLine !== false;
}
