// `npm test`: everything that has to hold before a change is in, cheap checks first. A failure does not stop the rest.
// The last line is the count of tests alone: "N passed, N failed". `--full` runs the long forms of tests as well.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildConsole } from "./build/console.mjs";
import { buildFaulty } from "./build/faulty.mjs";
import { buildPackage } from "./build/package.mjs";
import { buildSandbox } from "./build/sandbox.mjs";
import { checks, consoleCheck } from "./lint.mjs";
import { root, target } from "./paths.mjs";
import { main, run, Stop } from "./run.mjs";
import { setup } from "./setup.mjs";

/** A test that has not ended by then hangs. No test is judged by its speed. */
const hangMs = 20 * 60_000;

/** A test with a long form takes it when this is set. */
const testEnv = { CARGO_TARGET_DIR: target, ...(process.argv.includes("--full") && { TINKEX_FULL: "1" }) };

const counts = { passed: 0, failed: 0 };
const broken = [];

await main(async () => {
  await setup("test");
  for (const check of checks) await part(check.name, () => runCheck(check));
  await part("the package", buildPackage);
  await part("the package with faults", buildFaulty);
  await part("the sandbox", buildSandbox);
  await part(consoleCheck.name, () => runCheck(consoleCheck));
  await part("the console", buildConsole);
  await part("Rust tests", cargoTests);
  await part("JavaScript tests", nodeTests);

  if (broken.length > 0) console.log(`\nNot in order: ${broken.join(", ")}`);
  process.exitCode = counts.failed > 0 ? 1 : 0;
  console.log(`${counts.passed} passed, ${counts.failed} failed`);
});

/** Runs one part. One that ends badly without having counted a failed test (it did not compile, say) counts as one. */
async function part(name, body) {
  console.log(`\n== ${name}`);
  const failedBefore = counts.failed;
  const began = performance.now();
  try {
    await body();
  } catch (error) {
    console.error(error instanceof Stop ? error.message : error);
    if (counts.failed === failedBefore) counts.failed += 1;
  }
  if (counts.failed > failedBefore) broken.push(name);
  console.log(`   ${name}: ${Math.round((performance.now() - began) / 1000)} s`);
}

function runCheck({ check: [command, ...args] }) {
  return run(command, args, { cwd: root });
}

function cargoTests() {
  return run("cargo", ["test", "--locked", "--workspace", "--no-fail-fast"], {
    cwd: root,
    env: testEnv,
    onLine(line) {
      const [, passed, failed] = /^test result: \w+\. (\d+) passed; (\d+) failed/.exec(line) ?? [];
      counts.passed += Number(passed ?? 0);
      counts.failed += Number(failed ?? 0);
    },
  });
}

async function nodeTests() {
  const folder = mkdtempSync(join(tmpdir(), "tinkex-test-"));
  const report = join(folder, "report.tap");
  try {
    // One file at a time: browsers and servers side by side would only slow each other down.
    await run(
      process.execPath,
      [
        ...["--test", "--test-concurrency=1", `--test-timeout=${hangMs}`],
        ...["--test-reporter=spec", "--test-reporter-destination=stdout"],
        ...["--test-reporter=tap", `--test-reporter-destination=${report}`],
        ...testFiles(),
      ],
      { cwd: root, env: testEnv },
    );
  } finally {
    const summary = readFileSync(report, "utf8").matchAll(/^# (pass|fail|cancelled) (\d+)$/gm);
    for (const [, outcome, number] of summary) {
      counts[outcome === "pass" ? "passed" : "failed"] += Number(number);
    }
    rmSync(folder, { recursive: true });
  }
}

/** `tests/<part>/*.test.mjs`, which need no browser, and then `tests/*.test.mjs`. */
function testFiles() {
  const entries = readdirSync(join(root, "tests"), { withFileTypes: true });
  const folders = entries.filter((entry) => entry.isDirectory() && entry.name !== "node_modules");
  const testsIn = (folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith(".test.mjs"))
      .map((name) => join(folder, name));
  return [...folders.flatMap(({ name }) => testsIn(join("tests", name))), ...testsIn("tests")];
}
