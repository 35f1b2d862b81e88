// Leaving a page and coming back to it by the browser's history, with the back-forward cache really on: Chromium's own reasons say
// whether a page that was not kept is the page's matter or the browser's.
/** To be launched with: the driver turns the cache off. */
export const keepsPages = { ignoreDefaultArgs: ["--disable-back-forward-cache"] };

/** Reasons that no page can do anything about: room, time, and a machine that is slow. */
const BROWSERS_OWN = [
  "CacheFlushed",
  "CacheLimit",
  "ForegroundCacheLimit",
  "RendererProcessCrashed",
  "RendererProcessKilled",
  "Timeout",
  "TimeoutPuttingInCache",
];

/**
 * Somebody waited for a transaction that stands still. A page has given it up before; a worker that was stopped while it computed
 * could not.
 */
const IN_THE_WAY = "IgnoreEventAndEvict";

class NotKept extends Error {
  constructor(reasons) {
    super(`the browser did not keep the page: ${reasons.join(", ")}`);
    this.reasons = reasons;
  }
}

/** Goes back to a page that was kept as it was. The driver's own way back waits for a page that is loaded anew. */
export async function back(page) {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Page.enable");
  const gone = new Promise((kept, anew) => {
    devtools.on("Page.frameNavigated", ({ type }) => type === "BackForwardCacheRestore" && kept());
    devtools.on("Page.backForwardCacheNotUsed", ({ notRestoredExplanations: why }) =>
      anew(new NotKept(why.map(({ reason }) => reason))),
    );
  });
  await page.evaluate(() => history.back());
  await gone;
  await devtools.detach();
}

/** Runs a test of pages that are kept, and again where the browser had reasons not to that are no page's fault. */
export async function whereKept(t, worker, body) {
  const fine = worker ? [...BROWSERS_OWN, IN_THE_WAY] : BROWSERS_OWN;
  for (let more = 3; ; more -= 1) {
    try {
      return await body();
    } catch (error) {
      const isFine = error instanceof NotKept && error.reasons.every((reason) => fine.includes(reason));
      if (!isFine || !more) throw error;
      t.diagnostic(`${error.message}; the test begins again`);
    }
  }
}
