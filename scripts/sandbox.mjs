// `npm run sandbox -- --port N [--data DIR] …`: the sandbox alone. All arguments are its own.
import { buildSandbox } from "./build/sandbox.mjs";
import { main } from "./run.mjs";
import { serve } from "./serve.mjs";
import { setup } from "./setup.mjs";

await main(async () => {
  await setup("sandbox");
  await buildSandbox();
  await serve(process.argv.slice(2), (address) => console.log(`listening on ${address}`));
});
