// Running other programs: one way, with errors that say which command failed.
import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** Something that its reader can act on: told by its message alone, without a stack. */
export class Stop extends Error {}

/**
 * Runs a command to its end, its output shown as it comes. Rejects with {@link Stop} when it fails.
 * `onLine` takes the lines of its standard output besides.
 */
export function run(command, args, { cwd, env, quiet = false, onLine } = {}) {
  const piped = quiet || onLine !== undefined;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", piped ? "pipe" : "inherit", quiet ? "pipe" : "inherit"],
    });
    let heard = "";
    let line = "";
    child.stdout?.setEncoding("utf8").on("data", (text) => {
      if (quiet) heard += text;
      else process.stdout.write(text);
      if (onLine === undefined) return;
      const lines = (line + text).split("\n");
      line = lines.pop();
      lines.forEach(onLine);
    });
    child.stderr?.setEncoding("utf8").on("data", (text) => (heard += text));
    child.on("error", (error) => reject(new Stop(`${command} could not be started: ${error.message}`)));
    child.on("close", (code, signal) => {
      if (line !== "") onLine?.(line);
      if (code === 0) resolve(heard);
      else
        reject(
          new Stop(`${heard}\`${[command, ...args].join(" ")}\` ended with ${signal ?? `exit code ${code}`}`),
        );
    });
  });
}

/** The standard output of a short command, or undefined when it fails or isn't there. */
export function ask(command, args) {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8", timeout: 20_000 });
  return status === 0 ? stdout : undefined;
}

/** What a shell would run for `command`. */
export function onPath(command) {
  return (process.env["PATH"] ?? "")
    .split(delimiter)
    .map((folder) => join(folder, command))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** Runs a script's main part: a {@link Stop} ends it with its message and exit code 1. */
export async function main(body) {
  try {
    await body();
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
    console.error(`\n${error.message}`);
    process.exitCode = 1;
  }
}
