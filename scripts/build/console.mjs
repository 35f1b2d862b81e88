// The training console: www/ built by Vite into www/dist, with the package taken as a user takes it.
import { join } from "node:path";
import { root } from "../paths.mjs";
import { run } from "../run.mjs";
import { step } from "./fresh.mjs";

export function buildConsole() {
  return step(
    "console",
    { inputs: ["www", "pkg", "data", "package.json", "package-lock.json"], outputs: ["www/dist/index.html"] },
    () =>
      run(
        process.execPath,
        [join(root, "node_modules", "vite", "bin", "vite.js"), "build", "--logLevel", "warn"],
        {
          cwd: join(root, "www"),
        },
      ),
  );
}
