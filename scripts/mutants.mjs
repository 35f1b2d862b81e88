// `npm run mutants [-- NAME …]`: puts known defects back, one at a time, and passes only if the test that is there for each
// fails. A mutant is a patch in tests/mutants/, which begins with what it breaks and with `Found by:` and the command that
// has to find it. All of it happens in a copy of the checkout, which is kept with its builds, so that the next run is quick.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { root, target } from "./paths.mjs";
import { main, Stop } from "./run.mjs";
import { setup } from "./setup.mjs";

const patches = join(root, "tests", "mutants");

/** Builds of its own besides: cargo would take those of two checkouts in one folder for the same. */
const copy = join(target, "mutants", "checkout");
const env = { ...process.env, CARGO_TARGET_DIR: join(target, "mutants", "target") };

/** All mutants: name, patch, what it breaks, and the command that has to find it. */
export function mutants() {
  const files = readdirSync(patches).filter((file) => file.endsWith(".patch"));
  return files.sort().map((file) => {
    const path = join(patches, file);
    const [, what, command] =
      /^(.+?)\n\nFound by: (.+)\n/s.exec(readFileSync(path, "utf8").split("\ndiff --git ")[0]) ?? [];
    if (command === undefined) throw new Stop(`${path} does not begin with what it breaks and "Found by:"`);
    return { name: file.slice(0, -".patch".length), path, what: what.replaceAll("\n", " "), command };
  });
}

/** What git says against applying a patch to the checkout as it is; nothing when it applies. */
export function refusalOf({ path }) {
  return spawnSync("git", ["apply", "--check", path], { cwd: root, encoding: "utf8" }).stderr;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await main(async () => {
    await setup("sandbox");
    const asked = process.argv.slice(2);
    const all = mutants();
    const unknown = asked.find((name) => !all.some((mutant) => mutant.name === name));
    if (unknown !== undefined)
      throw new Stop(`There is no mutant ${unknown}; there are ${all.map(({ name }) => name).join(", ")}.`);
    const chosen = asked.length > 0 ? all.filter(({ name }) => asked.includes(name)) : all;

    takeCopy();
    for (const command of new Set(chosen.map(({ command }) => command))) {
      console.log(`as it is: ${command}`);
      const { status, output } = test(command);
      if (status !== 0) throw new Stop(`${output}\nThis fails without any mutant.`);
    }
    const rows = chosen.map((mutant) => {
      console.log(`${mutant.name}: ${mutant.what}`);
      takeCopy();
      apply(mutant);
      const { status, output } = test(mutant.command);
      return { name: mutant.name, by: finder(output), status, output };
    });

    const width = Math.max(...rows.map(({ name }) => name.length)) + 2;
    console.log(`\n${"mutant".padEnd(width)}found by`);
    for (const { name, by } of rows) console.log(name.padEnd(width) + (by ?? "nothing"));
    const alive = rows.find(({ by }) => by === undefined);
    if (alive) throw new Stop(`${alive.output}\n${alive.name} was not found.`);
  });
}

/** Makes the copy what the checkout is, writing only what differs: what is unchanged is not built again. */
function takeCopy() {
  const tracked = (options) =>
    execFileSync("git", ["ls-files", "-z", ...options], { cwd: root, encoding: "utf8" }).split("\0");
  const files = new Set(tracked(["--cached", "--others", "--exclude-standard"]));
  for (const gone of ["", ...tracked(["--deleted"])]) files.delete(gone);
  for (const file of files) {
    const [from, to] = [join(root, file), join(copy, file)];
    const content = readFileSync(from);
    if (existsSync(to) && readFileSync(to).equals(content)) continue;
    mkdirSync(dirname(to), { recursive: true });
    writeFileSync(to, content);
  }
  for (const entry of readdirSync(copy, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile() && !files.has(path.slice(copy.length + 1))) rmSync(path);
  }
}

function apply({ name, path }) {
  // Not as a part of the checkout around it, of which git would leave the patch out.
  const outside = { ...process.env, GIT_CEILING_DIRECTORIES: dirname(copy) };
  const { status, stderr } = spawnSync("git", ["apply", path], { cwd: copy, env: outside, encoding: "utf8" });
  if (status !== 0) throw new Stop(`${stderr}\n${name} does not apply: make its patch anew.`);
}

function test(command) {
  const [program, ...args] = command.split(" ");
  const { status, stdout, stderr } = spawnSync(program, args, {
    cwd: copy,
    env,
    encoding: "utf8",
    maxBuffer: 2 ** 28,
  });
  return { status, output: stdout + stderr };
}

/** The failed test, or the seed of a simulation that failed. A mutant that doesn't compile was found by nothing. */
function finder(output) {
  return /^test (\S+) \.\.\. FAILED$/m.exec(output)?.[1] ?? /^(seed \d+) fails/m.exec(output)?.[1];
}
