// Keeps two set-ups that run at the same time from doing the same work twice, or in the same folder.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

/**
 * Runs `body` while holding the lock file. A lock whose process is gone is taken over. It is a courtesy:
 * what must hold without it (a folder shared by containers, say) is done by renaming a finished folder into place.
 */
export async function withLock(file, body) {
  mkdirSync(dirname(file), { recursive: true });
  for (let told = false; !take(file); told = true) {
    if (!told) console.log(`  waiting for another set-up (process ${holder(file)}, ${file})`);
    await pause(500);
  }
  try {
    return await body();
  } finally {
    rmSync(file, { force: true });
  }
}

function take(file) {
  try {
    writeFileSync(file, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
  }
  if (!isAlive(holder(file))) rmSync(file, { force: true });
  return false;
}

function holder(file) {
  try {
    return Number(readFileSync(file, "utf8"));
  } catch {
    return NaN;
  }
}

/** A file that was just made and not yet written names nobody: that counts as alive until it is written. */
function isAlive(pid) {
  if (!(pid > 0)) return true;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}
