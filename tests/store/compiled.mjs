// The stores as they stand in js/, for tests in Node.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

/** Compiles modules of js/store/ into a folder of their own and imports them; they share what they import. */
export async function stores(...names) {
  const folder = mkdtempSync(join(tmpdir(), "tinkex-store-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  await build({
    entryPoints: names.map((name) => fileURLToPath(new URL(`../../js/store/${name}.ts`, import.meta.url))),
    outdir: folder,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    format: "esm",
    target: "es2022",
    external: ["node:*"],
  });
  const modules = names.map((name) => import(pathToFileURL(join(folder, `${name}.mjs`)).href));
  return Object.assign({}, ...(await Promise.all(modules)));
}
