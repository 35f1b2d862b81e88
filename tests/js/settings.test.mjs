// A service's options: what is taken, what is refused and by which name, and when a key is kept from a page.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { freshCopy, KEY } from "./stub.mjs";

const copy = freshCopy();
const { ServiceClient, InvalidArgumentError } = await copy.load("index");
const { settingsOf } = await copy.load("settings");

const LOCAL = "http://127.0.0.1:8123";

delete process.env.TINKER_API_KEY;
delete process.env.TINKER_BASE_URL;
delete process.env.TINKER_TELEMETRY;

/** Globals of another runtime, for one test. */
const replaced = new Map();
function global(name, value) {
  replaced.set(name, Object.getOwnPropertyDescriptor(globalThis, name));
  Object.defineProperty(globalThis, name, { value, configurable: true });
}
afterEach(() => {
  for (const [name, was] of replaced) {
    if (was) Object.defineProperty(globalThis, name, was);
    else delete globalThis[name];
  }
  replaced.clear();
});

function refused(options, field, words = /./) {
  assert.throws(
    () => new ServiceClient(options),
    (error) => {
      assert.ok(error instanceof InvalidArgumentError, String(error));
      assert.equal(error.field, field);
      assert.match(error.message, words);
      return true;
    },
  );
}

test("a key has a form, and is never shown", () => {
  for (const apiKey of ["tml-abc", "eyJhbGciOi.e30.x_-"]) {
    assert.equal(settingsOf({ apiKey, baseURL: LOCAL }).wire.apiKey, apiKey);
  }
  for (const apiKey of ["sk-secret", "tml-secret\n", " tml-secret", "tml-ses cret", 7, null]) {
    refused({ apiKey, baseURL: LOCAL }, "apiKey", /begins with tml-/);
    assert.throws(
      () => new ServiceClient({ apiKey, baseURL: LOCAL }),
      ({ message }) => !message.includes("secret"),
    );
  }
  refused({ baseURL: LOCAL }, "apiKey", /TINKER_API_KEY/);
  refused({ apiKey: "", baseURL: LOCAL }, "apiKey", /missing/);
});

test("key and address come from the environment where they are not given", () => {
  process.env.TINKER_API_KEY = "tml-of-the-environment";
  process.env.TINKER_BASE_URL = "http://localhost:9/";
  try {
    const { apiKey, baseURL } = settingsOf({}).wire;
    assert.deepEqual([apiKey, baseURL], ["tml-of-the-environment", "http://localhost:9"]);
    assert.equal(settingsOf({ apiKey: KEY, baseURL: LOCAL }).wire.apiKey, KEY);
  } finally {
    delete process.env.TINKER_API_KEY;
    delete process.env.TINKER_BASE_URL;
  }
  assert.match(settingsOf({ apiKey: KEY }).wire.baseURL, /^https:.*[^/]$/);
});

test("telemetry is on unless an option or the environment turns it off, and the option has the last word", () => {
  const told = (telemetry) => settingsOf({ apiKey: KEY, baseURL: LOCAL, ...telemetry }).wire.telemetry;
  assert.deepEqual([told({}), told({ telemetry: false }), told({ telemetry: true })], [true, false, true]);
  refused({ apiKey: KEY, baseURL: LOCAL, telemetry: "no" }, "telemetry", /boolean|true or false/);
  try {
    for (const [word, on] of [
      ["0", false],
      ["False", false],
      ["no", false],
      ["off", false],
      ["1", true],
      ["", true],
    ]) {
      process.env.TINKER_TELEMETRY = word;
      assert.deepEqual([word, told({}), told({ telemetry: true })], [word, on, true]);
    }
  } finally {
    delete process.env.TINKER_TELEMETRY;
  }
});

test("a runtime without an environment, or that guards it, has none", () => {
  for (const process of [undefined, {}]) {
    global("process", process);
    refused({ baseURL: LOCAL }, "apiKey", /missing/);
  }
  global("process", {
    get env() {
      throw new Error("NotCapable");
    },
  });
  refused({ baseURL: LOCAL }, "apiKey", /missing/);
});

test("an address is whole, of the web, and without secrets", () => {
  const taken = (baseURL) => settingsOf({ apiKey: KEY, baseURL }).wire.baseURL;
  assert.equal(taken("http://localhost:8123/"), "http://localhost:8123");
  assert.equal(taken("https://example.com/tinker//"), "https://example.com/tinker");
  for (const baseURL of ["", "/api", "localhost:8123", "ftp://x", "127.0.0.1:8123"]) {
    refused({ apiKey: KEY, baseURL }, "baseURL");
  }
  for (const baseURL of [
    "http://user:pass@localhost",
    "http://localhost?key=pass",
    "http://localhost#pass",
  ]) {
    refused({ apiKey: KEY, baseURL }, "baseURL");
    assert.throws(
      () => new ServiceClient({ apiKey: KEY, baseURL }),
      ({ message }) => !message.includes("pass@") && !message.includes("=pass") && !message.includes("#pass"),
    );
  }
});

test("an unknown option is named, and the one that was meant", () => {
  refused({ apiKey: KEY, baseUrl: LOCAL }, "baseUrl", /did you mean baseURL/);
  refused({ api_key: KEY }, "api_key", /did you mean apiKey/);
  refused({ apiKey: KEY, retries: 3 }, "retries", /maxRetries/);
  refused("tml-key", "options");
  refused(null, "options");
});

test("options have types and ranges", () => {
  const bad = (name, ...values) => {
    for (const value of values) refused({ apiKey: KEY, baseURL: LOCAL, [name]: value }, name, RegExp(name));
  };
  bad("timeout", 0, -1, 1.5, Infinity, "60", 2 ** 31);
  bad("maxRetries", -1, 0.5, NaN);
  bad("maxConnections", 0, 2);
  bad("dangerouslyAllowBrowser", 1, "true");
  bad("fetch", "fetch", {});
  bad("logger", {}, { debug() {}, info() {}, warn() {} }, "console");
  bad("tags", "a", {});
  bad("projectId", 1, "");
  refused({ apiKey: KEY, baseURL: LOCAL, tags: ["a", 1] }, "tags[1]");
  refused({ apiKey: KEY, baseURL: LOCAL, userMetadata: { a: 1 } }, "userMetadata.a");
  new ServiceClient({
    apiKey: KEY,
    baseURL: LOCAL,
    logger: console,
    fetch,
    maxRetries: 0,
    maxConnections: 3,
  });
});

const REMOTE = "https://example.com";

test("in a page, a key for another machine is refused unless that is wanted", () => {
  global("window", { document: {} });
  refused({ apiKey: KEY, baseURL: REMOTE }, "dangerouslyAllowBrowser", /example\.com is not this machine/);
  refused({ apiKey: KEY, baseURL: "http://127.0.0.1.example.com" }, "dangerouslyAllowBrowser");
  refused({ apiKey: KEY }, "dangerouslyAllowBrowser");
  new ServiceClient({ apiKey: KEY, baseURL: REMOTE, dangerouslyAllowBrowser: true });
  for (const host of ["127.0.0.1:8123", "localhost", "sub.localhost:1", "[::1]:8123", "127.1.2.3"]) {
    new ServiceClient({ apiKey: KEY, baseURL: `http://${host}` });
  }
});

test("so it is in a browser's worker, and in no other runtime's", () => {
  global("navigator", { userAgent: "Mozilla/5.0 (a name that a server gives itself)" });
  new ServiceClient({ apiKey: KEY, baseURL: REMOTE });
  global("WorkerGlobalScope", class {});
  global("navigator", { userAgent: "Mozilla/5.0 (X11; Linux x86_64)" });
  refused({ apiKey: KEY, baseURL: REMOTE }, "dangerouslyAllowBrowser");
  for (const userAgent of ["Cloudflare-Workers", "Deno/2.9.0", undefined]) {
    global("navigator", { userAgent });
    new ServiceClient({ apiKey: KEY, baseURL: REMOTE });
  }
});
