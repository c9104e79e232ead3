/**
 * Lock files between processes: whoever makes the file holds it, and it names its holder by process id.
 *
 * Design: the file appears by a link to one that is already written, so that a lock without a name is never seen.
 * Invariants: a lock whose process is gone is taken over, by one only; waiting ends with an error of one sentence.
 */
import { randomBytes } from "node:crypto";
import { link, mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DebianError } from "./errors.ts";

/** How long another process is waited for, in ms. */
const LOCK_TIMEOUT = 20 * 60_000;

/**
 * Takes the lock file `path` for this caller; its folder is made where it is missing.
 * @returns what gives it back
 * @throws DebianError "busy" when another process holds it for very long, "aborted" by `signal`
 */
export async function lock(path: string, signal?: AbortSignal): Promise<() => Promise<void>> {
  await mkdir(dirname(path), { recursive: true });
  const own = `${path}.${process.pid}.${randomBytes(4).toString("hex")}`;
  await writeFile(own, String(process.pid));
  try {
    for (const until = Date.now() + LOCK_TIMEOUT; ; ) {
      if (signal?.aborted === true) throw new DebianError("aborted", "Waiting for another process was aborted.");
      const taken = await link(own, path).then(
        () => true,
        (error: NodeJS.ErrnoException) => {
          if (error.code === "EEXIST") return false;
          throw error;
        },
      );
      if (taken) return () => rm(path, { force: true });
      const holder = await holderOf(path);
      if (holder === "gone") await removeStale(path, own);
      else if (Date.now() > until)
        throw new DebianError("busy", `Process ${holder} has held ${path} for long: end it, or remove that file.`);
      else await sleep(100);
    }
  } finally {
    await rm(own, { force: true });
  }
}

/** The process that holds a lock, or that it is gone. */
async function holderOf(path: string): Promise<number | "gone"> {
  const holder = Number(await readFile(path, "utf8").catch(() => ""));
  if (!Number.isInteger(holder) || holder <= 0 || !alive(holder)) return "gone";
  if (holder !== process.pid) return holder;
  // Of this very process, or of an earlier one that had its number (in a container that is usual).
  const made = await stat(path).then(
    (s) => s.mtimeMs,
    () => 0,
  );
  return made < Date.now() - process.uptime() * 1000 - 1000 ? "gone" : holder;
}

/** Moves a stale lock aside; one that was taken by somebody alive in the meantime is put back. */
async function removeStale(path: string, own: string): Promise<void> {
  const aside = `${own}.stale`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  if ((await holderOf(aside)) !== "gone") await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
