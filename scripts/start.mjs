// `npm start`: from a bare checkout to a console that trains, at one address.
import { join } from "node:path";
import { buildConsole } from "./build/console.mjs";
import { buildPackage } from "./build/package.mjs";
import { buildSandbox } from "./build/sandbox.mjs";
import { consoleDist, root } from "./paths.mjs";
import { main } from "./run.mjs";
import { serve } from "./serve.mjs";
import { setup } from "./setup.mjs";

await main(async () => {
  await setup("start");
  await buildPackage();
  await buildConsole();
  await buildSandbox();
  const port = process.env["PORT"] || "8123";
  const args = ["--data", join(root, ".tinkex"), "--static", consoleDist, "--port", port];
  await serve(args, (address) =>
    console.log(`\nThe console is at ${address}\nCtrl-C stops it; what it trained is kept in .tinkex/\n`),
  );
});
