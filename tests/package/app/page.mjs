// In a page, built by Vite. The test reads the title.
import { init } from "tinkex";
import { twoSteps } from "./two-steps.mjs";

try {
  await init();
  globalThis.result = await twoSteps(new URL(location.href).searchParams.get("server"));
  document.title = "done";
} catch (error) {
  globalThis.result = `${error}\n${error.stack}`;
  document.title = "failed";
}
