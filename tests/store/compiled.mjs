// The stores as they stand in js/, for tests in Node.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

/** Compiles modules of js/store/ into a folder of their own, where they share what they import; gives their addresses. */
export async function compile(...names) {
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
  return names.map((name) => pathToFileURL(join(folder, `${name}.mjs`)).href);
}

/** What these modules export, all together. */
export async function stores(...names) {
  const modules = (await compile(...names)).map((address) => import(address));
  return Object.assign({}, ...(await Promise.all(modules)));
}
