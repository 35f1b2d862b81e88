// In a page, built by Vite, with the client on the page itself or in a worker. The test reads the title.
import { init } from "tinkex";
import { twoSteps } from "./two-steps.mjs";

const { searchParams } = new URL(location.href);
try {
  await init({ worker: searchParams.has("worker") });
  globalThis.result = await twoSteps(searchParams.get("server"));
  document.title = "done";
} catch (error) {
  globalThis.result = `${error}\n${error.stack}`;
  document.title = "failed";
}
