// Runs the sandbox's program for as long as this process lives, and ends with it.
import { spawn } from "node:child_process";
import { sandboxBinary } from "./paths.mjs";
import { Stop } from "./run.mjs";

/** Resolves when the sandbox has ended. `onAddress` gets its address, once it listens. Ctrl-C and SIGTERM stop it in order. */
export function serve(args, onAddress) {
  return new Promise((resolve, reject) => {
    const sandbox = spawn(sandboxBinary, args, { stdio: ["ignore", "pipe", "inherit"] });
    for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => sandbox.kill(signal));
    sandbox.stdout.setEncoding("utf8").on("data", (text) => {
      const address = /^listening on (\S+)/m.exec(text)?.[1];
      if (address === undefined) process.stdout.write(text);
      else onAddress(address);
    });
    sandbox.on("error", (error) => reject(new Stop(`The sandbox could not be started: ${error.message}`)));
    sandbox.on("close", (code, signal) => {
      if (code === 0 || signal === "SIGINT" || signal === "SIGTERM") resolve();
      else reject(new Stop(`The sandbox ended with ${signal ?? `exit code ${code}`}.`));
    });
  });
}
