// wasm-bindgen and wasm-pack in the pinned versions: from PATH, from the cache, downloaded, or compiled.
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { cache as userCache } from "../paths.mjs";
import { stable, wasmBindgen, wasmPack } from "../pins.mjs";
import { ask, onPath, run } from "../run.mjs";
import { withLock } from "./lock.mjs";

export const tools = [
  {
    command: "wasm-bindgen",
    crate: "wasm-bindgen-cli",
    version: wasmBindgen,
    archive: (version, host) =>
      `https://github.com/wasm-bindgen/wasm-bindgen/releases/download/${version}/wasm-bindgen-${version}-${host}.tar.gz`,
  },
  {
    command: "wasm-pack",
    crate: "wasm-pack",
    version: wasmPack,
    archive: (version, host) =>
      `https://github.com/drager/wasm-pack/releases/download/v${version}/wasm-pack-v${version}-${host}.tar.gz`,
  },
];

export function wasmToolNeeds() {
  return tools.map((tool) => ({
    what: `${tool.crate} ${tool.version}`,
    takes: "some seconds to download; where that fails, 2 to 6 minutes to compile, once for all checkouts",
    isMet: () => toolFolder(tool) !== undefined,
    install: () => installTool(tool),
  }));
}

/** The folder that has the tool in its pinned version, or undefined. */
export function toolFolder(tool, cache = userCache) {
  const found = onPath(tool.command);
  if (found !== undefined && isVersion(found, tool)) return dirname(found);
  const kept = join(cachedAs(tool, cache), "bin");
  return existsSync(join(kept, tool.command)) ? kept : undefined;
}

/**
 * Puts the tool into the cache. It is made in a folder beside its place and renamed when it is whole, so that
 * whoever looks, in another process or after a crash, finds all of it or nothing.
 */
export function installTool(
  tool,
  { cache = userCache, download = downloadTool, compile = compileTool } = {},
) {
  return withLock(join(cache, `${tool.crate}-${tool.version}.lock`), async () => {
    const place = cachedAs(tool, cache);
    if (existsSync(place)) return;
    const draft = mkdtempSync(join(cache, "draft-"));
    try {
      mkdirSync(join(draft, "bin"));
      if (!(await download(tool, draft))) await compile(tool, draft, cache);
      try {
        renameSync(draft, place);
      } catch (error) {
        // Another set-up, one that does not see our lock, was first: its tool is as good.
        if (!existsSync(place)) throw error;
      }
    } finally {
      rmSync(draft, { recursive: true, force: true });
    }
  });
}

/** Resolves to whether the project's release archive could be had and gives the right version. Never rejects. */
export async function downloadTool(tool, draft, { host = releaseHost(), archive = tool.archive } = {}) {
  if (host === undefined || process.env["TINKEX_NO_DOWNLOAD"]) return false;
  try {
    const response = await fetch(archive(tool.version, host), { signal: AbortSignal.timeout(60_000) });
    if (!response.ok) return false;
    const file = join(draft, "archive.tar.gz");
    await pipeline(Readable.fromWeb(response.body), createWriteStream(file));
    await run("tar", ["xzf", file, "--strip-components=1", "-C", join(draft, "bin")], { quiet: true });
    rmSync(file);
    return isVersion(join(draft, "bin", tool.command), tool);
  } catch {
    return false;
  }
}

async function compileTool(tool, draft, cache) {
  console.log(`  no download to be had: compiling ${tool.crate} ${tool.version}`);
  // Both tools share most of their dependencies, so one target folder serves both. It stays until neither is missing.
  const built = join(cache, "build");
  await run(
    "cargo",
    [
      ...["install", tool.crate, "--version", tool.version, "--bin", tool.command, "--root", draft],
      // They run for a second a build: quick to compile is worth more than quick.
      ...["--no-default-features", "--config", "profile.release.opt-level=1", "--quiet"],
    ],
    { env: { CARGO_TARGET_DIR: built, RUSTUP_TOOLCHAIN: stable.name } },
  );
  const others = tools.filter((other) => other.crate !== tool.crate);
  if (others.every((other) => toolFolder(other, cache) !== undefined))
    rmSync(built, { recursive: true, force: true });
}

/** Where the cache keeps a tool: one folder a version. */
export const cachedAs = (tool, cache) => join(cache, `${tool.crate}-${tool.version}`);

const isVersion = (file, { version }) => ask(file, ["--version"])?.trim().split(" ")[1] === version;

/** This machine's name in release archives, or undefined where none are made for it. */
function releaseHost() {
  const hosts = {
    "linux x64": "x86_64-unknown-linux-musl",
    "linux arm64": "aarch64-unknown-linux-musl",
    "darwin x64": "x86_64-apple-darwin",
    "darwin arm64": "aarch64-apple-darwin",
  };
  return hosts[`${process.platform} ${process.arch}`];
}
