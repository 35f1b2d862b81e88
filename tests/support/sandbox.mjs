// A sandbox of a test's own: the real program, on a free port, gone with the test.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { sandboxBinary } from "../../scripts/paths.mjs";

/**
 * Starts the sandbox and resolves when it listens, to `{ url, log(), stop(), kill(), said() }`; `args` are the program's own. It is stopped
 * after the test `t`, if not before. `stop` is SIGTERM, `kill` SIGKILL; both resolve when it is gone.
 * `npm test` builds the program; by itself: `cargo build --release -p tinkex-sandbox`.
 */
export async function startSandbox(t, args = []) {
  const port = args.includes("--port") ? [] : ["--port", "0"];
  const sandbox = spawn(sandboxBinary, [...port, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  sandbox.stderr.setEncoding("utf8").on("data", (text) => (said += text));
  const gone = new Promise((resolve, reject) => {
    sandbox.once("error", (error) =>
      reject(
        new Error(`${sandboxBinary} could not be started (${error.message}). npm run sandbox builds it.`),
      ),
    );
    sandbox.once("close", (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
  const end = (signal) => {
    sandbox.kill(signal);
    return gone;
  };
  t.after(() => end("SIGTERM"));

  const url = new Promise((resolve) => {
    createInterface({ input: sandbox.stdout }).on("line", (line) => {
      const address = /^listening on (\S+)/.exec(line)?.[1];
      if (address !== undefined) resolve(address);
    });
  });
  const early = gone.then((how) => {
    throw new Error(`The sandbox ended with ${how} before it listened:\n${said}`);
  });
  return {
    url: await Promise.race([url, early]),
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    /** Its log of what it applied, parsed; with `--log-bodies` each entry's `body` is a Buffer. */
    async log() {
      const response = await fetch(`${await url}/api/v1/sandbox/log`, {
        headers: { "x-api-key": "tml-a-test" },
      });
      if (!response.ok)
        throw new Error(`the log was answered with ${response.status}: ${await response.text()}`);
      const lines = (await response.text()).trim().split("\n");
      return lines.map((line) => {
        const { body, ...entry } = JSON.parse(line);
        return { ...entry, ...(body !== undefined && { body: Buffer.from(body, "base64") }) };
      });
    },
    /** What it wrote to its standard error so far. */
    said: () => said,
  };
}
