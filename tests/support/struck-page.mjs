// A page that is struck at one point of its way: what it was asked, how it tells, and what of it passes points. The harness
// is tests/durability/struck.mjs.

/** What the harness asks of this page; `strike` is `{ point, nth }`: where it is to be struck. */
export const asked = JSON.parse(decodeURIComponent(location.hash.slice(1)));

let strike = asked.strike;
let passed = 0;

/** Tells the harness without letting anything else happen in this page before it has answered. */
export function tell(what, about = {}) {
  const request = new XMLHttpRequest();
  request.open("POST", `${asked.harness}/${what}`, false);
  request.send(JSON.stringify(about));
  return JSON.parse(request.responseText || "{}");
}

/** Passes a point. Where this page is to be struck there, the harness is told, and its answer given. */
export function reach(point) {
  if (strike?.point !== point || ++passed < strike.nth) return undefined;
  const answer = tell("strike", { point });
  passed = 0;
  strike = answer.next;
  return answer;
}

export function failed(error) {
  tell("failed", { error: `${error?.stack ?? error} (${error?.code}, ${error?.outcome})` });
}

/** Passes `called` and `written` with each strict commit that `counts`, and looks for the key in all that is put. */
export function watchStore({ apiKey, counts = () => true, pass }) {
  const { transaction } = IDBDatabase.prototype;
  IDBDatabase.prototype.transaction = function (stores, mode, options) {
    const isCounted = options?.durability === "strict" && counts();
    if (isCounted) pass("called");
    const made = transaction.call(this, stores, mode, options);
    if (isCounted) made.addEventListener("complete", () => pass("written"));
    return made;
  };
  const { put } = IDBObjectStore.prototype;
  IDBObjectStore.prototype.put = function (value, key) {
    const text =
      value instanceof Uint8Array ? new TextDecoder("latin1").decode(value) : JSON.stringify(value);
    if (`${key} ${text} ${this.transaction.db.name}`.includes(apiKey)) failed(`the key is in ${key}`);
    return put.call(this, value, key);
  };
}

/**
 * A `fetch` that passes points: what `sends` gives for a path and a body, when that is sent; `accepted` when one that passed `sent` is
 * answered, and `answered` with each result. What the server refuses is a failure unless it `mayRefuse`.
 */
export function watchedFetch({ sends, mayRefuse = false, pass }) {
  return async (url, options) => {
    const path = new URL(url).pathname.split("/").at(-1);
    const answering = fetch(url, options);
    const point = sends(path, options?.body);
    if (point) pass(point);
    const response = await answering;
    if (!mayRefuse && response.status >= 400 && response.status < 500) {
      failed(`${path}: ${await response.clone().text()}`);
    }
    if (point === "sent") pass("accepted");
    if (path === "retrieve_future" && response.ok) {
      // A poll that was held to its end is no result.
      const text = new TextDecoder("latin1").decode(await response.clone().arrayBuffer());
      if (!text.includes('"try_again"')) pass("answered");
    }
    return response;
  };
}
