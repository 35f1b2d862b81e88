// `npm run build [-- --console]`: the package into pkg/, and the console into www/dist when asked. Skips what is up to date.
import { buildConsole } from "./build/console.mjs";
import { buildPackage } from "./build/package.mjs";
import { main, Stop } from "./run.mjs";
import { setup } from "./setup.mjs";

await main(async () => {
  const asked = process.argv.slice(2);
  const unknown = asked.find((argument) => argument !== "--console");
  if (unknown !== undefined)
    throw new Stop(`npm run build does not know ${unknown}; it takes --console or nothing.`);
  await setup("start");
  await buildPackage();
  if (asked.includes("--console")) await buildConsole();
});
