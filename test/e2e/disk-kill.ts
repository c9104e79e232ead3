/**
 * The host process is killed at random moments while a guest writes numbered records with flushes and barriers; whatever the guest saw
 * flushed must be on the disk, as the host sees it in the files and as the guest itself sees it at the next start.
 *
 * Design: `disk-log` (test/guests/src) prints "flushed N" once record N and all before it are safe; a line that has come through the
 * pipe is a promise. Each round starts the command on the same disk again, waits for the first promise and some random time, and
 * sends SIGKILL. Shared by the short and the long form.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { NodeHost } from "../../core/node/host-services.ts";
import { OverlayFile } from "../../plugins/lib-block/overlay.ts";
import { PROJECT } from "../tools/hookvisor-run.ts";

const SECTOR = 512;
/** No multiple of anything that a backend might use as a unit. */
const SECTORS = 1501;
const MAGIC = 0x64726f6365526b64n;
const SPREAD = 0x9e3779b97f4a7c15n;
const BIN = join(PROJECT, "core", "node", "bin", "hookvisor.js");

/** What one run printed until it was killed. */
interface Life {
  /** The last record on the disk that the guest found at its start, -1: it did not get so far. */
  found: number;
  torn: number;
  /** The last record that it saw flushed, 0: none. */
  flushed: number;
  problems: string[];
}

/** Runs the guest, kills the process `delay` ms after the first promise. */
async function live(disk: string, delay: number): Promise<Life> {
  const args = [BIN, "run", "disk-log", "--memory", "16", "--disk", disk];
  const child: ChildProcess = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  const life: Life = { found: -1, torn: 0, flushed: 0, problems: [] };
  let rest = "";
  let promised: () => void = () => {};
  const first = new Promise<void>((resolve) => {
    promised = resolve;
  });
  child.stdout!.setEncoding("latin1").on("data", (text: string) => {
    const lines = (rest + text).replaceAll("\r", "").split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      const start = /last record (\d+), torn (\d+)$/.exec(line);
      const flushed = /flushed (\d+)$/.exec(line);
      if (start !== null) [life.found, life.torn] = [Number(start[1]), Number(start[2])];
      else if (flushed !== null) life.flushed = Number(flushed[1]);
      else if (line !== "") life.problems.push(line);
    }
    if (life.flushed > 0) promised();
  });
  child.stderr!.setEncoding("utf8").on("data", (text: string) => life.problems.push(text));
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  await Promise.race([first, ended, sleep(60_000)]);
  await sleep(delay);
  child.kill("SIGKILL");
  await ended;
  return life;
}

/** The record number that each sector holds, as the files say: 0 for none, -1 for what is no record. */
async function records(image: string, overlay: string | null): Promise<number[]> {
  const host = new NodeHost();
  const base = await host.openFile(image, overlay === null ? "rw" : "r");
  const file = overlay === null ? base : await OverlayFile.open(base, await host.openFile(overlay, "rw"));
  const bytes = new Uint8Array(SECTORS * SECTOR);
  await file.read(0, bytes);
  await file.close();
  const view = new DataView(bytes.buffer);
  return Array.from({ length: SECTORS }, (_, sector) => {
    const word = (i: number): bigint => view.getBigUint64(sector * SECTOR + 8 * i, true);
    const number = word(1);
    if (word(0) === 0n && number === 0n) return 0;
    let good = word(0) === MAGIC && Number(number % BigInt(SECTORS)) === sector;
    for (let i = 2; i < SECTOR / 8; i++) good &&= word(i) === BigInt.asUintN(64, number * SPREAD + BigInt(i));
    return good ? Number(number) : -1;
  });
}

/** Kills `times` times; `overlay`: the disk is a copy-on-write overlay. `seed` decides the moments. */
export async function killAndLook(times: number, overlay: boolean, seed: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "hookvisor-kill-"));
  const image = join(folder, "disk.img");
  const changes = overlay ? join(folder, "changes.cow") : null;
  writeFileSync(image, "");
  truncateSync(image, SECTORS * SECTOR);
  let state = seed >>> 0;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % below;
  };
  try {
    let safe = 0;
    for (let round = 0; round < times; round++) {
      const delay = random(600);
      const life = await live(`${image},raw,xvda,w${changes === null ? "" : `,cow=${changes}`}`, delay);
      const where = `round ${round}, killed ${delay} ms after the first flush, seed ${seed}`;
      expect(life.problems, where).toEqual([]);
      expect(life.torn, where).toBe(0);
      expect(life.flushed, where).toBeGreaterThan(0);
      // What the guest found at its start was everything that it was promised before.
      expect(life.found, where).toBeGreaterThanOrEqual(safe);
      safe = life.flushed;
      const found = await records(image, changes);
      for (const [sector, number] of found.entries()) {
        // The newest promised record of this sector; a newer one may have taken its place.
        const promised = safe - ((((safe - sector) % SECTORS) + SECTORS) % SECTORS);
        if (promised > 0) expect(number, `${where}, sector ${sector}`).toBeGreaterThanOrEqual(promised);
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}
