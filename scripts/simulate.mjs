// `npm run simulate [-- --runs] [--seeds N] [--first-seed S]`: the client against the sandbox in worlds where everything goes
// wrong, one for each seed; with `--runs` whole training runs, in tabs. A single one is told as it happens.
import { root, target } from "./paths.mjs";
import { main, run } from "./run.mjs";
import { setup } from "./setup.mjs";

await main(async () => {
  await setup("sandbox");
  await run(
    "cargo",
    ["run", "--quiet", "--locked", "--release", "--example", "simulate", "--", ...process.argv.slice(2)],
    {
      cwd: root,
      env: { CARGO_TARGET_DIR: target },
    },
  );
});
