// `npm run bench -- NAME`: runs benches/NAME.mjs, with everything built as it ships.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { buildPackage } from "./build/package.mjs";
import { buildSandbox } from "./build/sandbox.mjs";
import { root } from "./paths.mjs";
import { main, run, Stop } from "./run.mjs";
import { setup } from "./setup.mjs";

await main(async () => {
  const benches = join(root, "benches");
  const names = readdirSync(benches)
    .filter((file) => file.endsWith(".mjs"))
    .map((file) => file.slice(0, -".mjs".length));
  const [name, ...rest] = process.argv.slice(2);
  if (name === undefined || !existsSync(join(benches, `${name}.mjs`))) {
    throw new Stop(`npm run bench -- NAME, where NAME is one of: ${names.join(", ")}`);
  }
  await setup("test");
  await buildPackage();
  await buildSandbox();
  await run(process.execPath, [join(benches, `${name}.mjs`), ...rest], { cwd: root });
});
