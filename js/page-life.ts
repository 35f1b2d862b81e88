// What happens to a page: it is hidden, put aside (frozen, or kept for its history), and comes back. Other runtimes have no
// pages, and nothing of it happens there.

export interface PageListener {
  /** It may be seen no more, and still runs. */
  hidden(): void;
  /** It is about to stop, for a while or for good. */
  away(): void;
  back(): void;
}

/** Until the function that it gives is called. */
export function watchPage(listener: PageListener): () => void {
  const { document } = globalThis as { document?: Document };
  if (!document) return () => undefined;
  const heard: [target: EventTarget, type: string, handler: (event: Event) => void][] = [
    [document, "visibilitychange", () => document.visibilityState === "hidden" && listener.hidden()],
    [document, "freeze", () => listener.away()],
    [document, "resume", () => listener.back()],
    [globalThis, "pagehide", () => listener.away()],
    [globalThis, "pageshow", (event) => (event as PageTransitionEvent).persisted && listener.back()],
  ];
  for (const [target, type, handler] of heard) target.addEventListener(type, handler);
  return () => {
    for (const [target, type, handler] of heard) target.removeEventListener(type, handler);
  };
}
