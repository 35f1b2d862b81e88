// The checks that read the source and run nothing of it. `npm run lint` runs them, `npm run format` mends what can be mended.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { root } from "./paths.mjs";
import { main, run, Stop } from "./run.mjs";
import { setup } from "./setup.mjs";

const node = (packageName, file, ...args) => [
  process.execPath,
  join(root, "node_modules", packageName, file),
  ...args,
];

/** Cheap ones first. `fix` is the command that mends what `check` finds. */
export const checks = [
  {
    name: "prettier",
    check: node("prettier", "bin/prettier.cjs", "--check", "--log-level", "warn", "."),
    fix: node("prettier", "bin/prettier.cjs", "--write", "--log-level", "warn", "."),
  },
  { name: "rustfmt", check: ["cargo", "fmt", "--all", "--check"], fix: ["cargo", "fmt", "--all"] },
  { name: "tsc", check: node("typescript", "bin/tsc", "--noEmit", "-p", ".") },
  {
    name: "eslint",
    check: node("eslint", "bin/eslint.js", "--max-warnings", "0", "."),
    fix: node("eslint", "bin/eslint.js", "--fix", "."),
  },
  {
    name: "clippy",
    check: [..."cargo clippy --locked --workspace --all-targets -- -D warnings".split(" ")],
  },
  {
    // What only the browser compiles, on stable: its code is the same with and without unwinding.
    name: "clippy for wasm",
    check: [
      ..."cargo clippy --locked -p tinkex -p gloo-timers --target wasm32-unknown-unknown -- -D warnings".split(
        " ",
      ),
    ],
  },
];

/** The console's types include the package's, so this comes after the build of that. */
export const consoleCheck = {
  name: "svelte-check",
  check: node(
    ...["svelte-check", "bin/svelte-check", "--workspace", join(root, "www")],
    ...["--tsconfig", "tsconfig.json", "--fail-on-warnings"],
  ),
};

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await main(async () => {
    await setup("test");
    const isFix = process.argv.includes("--fix");
    const failed = [];
    for (const { name, check, fix } of [
      ...checks,
      ...(existsSync(join(root, "pkg/index.d.ts")) ? [consoleCheck] : []),
    ]) {
      const [command, ...args] = isFix ? (fix ?? []) : check;
      if (command === undefined) continue;
      console.log(name);
      await run(command, args, { cwd: root }).catch(() => failed.push(name));
    }
    if (failed.length > 0) throw new Stop(`Not in order: ${failed.join(", ")}`);
  });
}
