/**
 * A disk: the file behind it, opened as its spec says, and its host operations, in order and in virtual time.
 *
 * Operations run one after the other in the order in which they were asked for. Those that were asked for between two `submit`s are answered together, a fixed
 * virtual latency after the second: what a guest reads never depends on the host's speed. Invariants: each operation is answered exactly once; a flush is answered
 * after the host's fsync; after one that failed none succeeds: the host may have dropped what it could not write.
 */
import { ConfigError, type DeviceHost, type HostFile, type HostServices, type Nanoseconds } from "hookvisor";
import { OverlayFile, overlaySize } from "./overlay.ts";
import type { DiskSpec } from "./spec.ts";

/** Bytes of a sector, whatever the image's file system thinks. */
export const SECTOR = 512;
/** Virtual time between a request and its answer. */
export const LATENCY: Nanoseconds = 100_000;
/** Bytes that are given up as one: what files have holes of. */
export const DISCARD_GRANULARITY = 4096;
/** Bytes of zeros written at a time. */
const ZEROS = 1 << 18;

/** Opens the file of a disk, and the overlay over it. ConfigError says what is wrong. */
export async function openDisk(spec: DiskSpec, services: HostServices): Promise<HostFile> {
  const image = await services.openFile(spec.target, spec.writable && spec.overlay === null ? "rw" : "r");
  try {
    if (image.size < SECTOR)
      throw new ConfigError(
        `Disk ${spec.target} has ${image.size} bytes; an image holds at least one sector of ${SECTOR}.`,
      );
    return spec.overlay === null ? image : await openOverlay(image, spec.overlay, services);
  } catch (error) {
    await image.close();
    throw error;
  }
}

async function openOverlay(
  image: HostFile,
  overlay: { readonly file: string } | "temporary",
  services: HostServices,
): Promise<HostFile> {
  const temporary = overlay === "temporary";
  const path = temporary ? `temporary overlay of ${image.path}` : overlay.file;
  const file = await services.openFile(path, "rw", { size: overlaySize(image.size), temporary });
  try {
    return await OverlayFile.open(image, file);
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** What happened to an operation. */
export type Done = (error: Error | null) => void;

/** Which flushes belong to a write: none, before it (a flush that carries data), both sides (a barrier). */
export type Flush = "none" | "before" | "both";

/** A host operation: its error once it has ended, and what follows. */
interface Task {
  readonly done: Done;
  error: Error | null;
}

export class Disk {
  /** Whole sectors of the file. */
  readonly sectors: number;
  readonly writable: boolean;
  /** Parts of it can be given up. */
  readonly discards: boolean;
  readonly #file: HostFile;
  readonly #host: Pick<DeviceHost, "io">;
  /** What the first flush that failed died of. */
  #flushFailed: Error | null = null;
  /** Operations since the last submit. */
  #batch: Task[] = [];
  /** Ends when every operation asked for so far has. Never rejects. */
  #work: Promise<unknown> = Promise.resolve();

  /** `file` is the disk's from now on. */
  constructor(spec: DiskSpec, file: HostFile, host: Pick<DeviceHost, "io" | "log">) {
    this.#file = file;
    this.#host = host;
    this.sectors = Math.floor(file.size / SECTOR);
    this.writable = spec.writable;
    this.discards = spec.writable && spec.discard && file.discard !== undefined;
    if (file.size % SECTOR !== 0)
      host.log(`${file.path}: its last ${file.size % SECTOR} bytes are no whole sector; the guest does not see them`);
  }

  read(offset: number, into: Uint8Array, done: Done): void {
    this.#start(() => this.#file.read(offset, into), done);
  }

  write(offset: number, from: Uint8Array, flush: Flush, done: Done): void {
    this.#start(async () => {
      if (flush !== "none") await this.#flush();
      await this.#file.write(offset, from);
      if (flush === "both") await this.#flush();
    }, done);
  }

  flush(done: Done): void {
    this.#start(() => this.#flush(), done);
  }

  /** Gives bytes up, where `discards` says that it can. */
  discard(offset: number, length: number, done: Done): void {
    this.#start(async () => (length > 0 ? this.#file.discard!(offset, length) : undefined), done);
  }

  /** Writes zeros. */
  zero(offset: number, length: number, done: Done): void {
    this.#start(async () => {
      const zeros = new Uint8Array(Math.min(length, ZEROS));
      for (let at = 0; at < length; at += zeros.length)
        await this.#file.write(offset + at, zeros.subarray(0, Math.min(zeros.length, length - at)));
    }, done);
  }

  async #flush(): Promise<void> {
    if (this.#flushFailed !== null) throw this.#flushFailed;
    try {
      await this.#file.flush();
    } catch (error) {
      this.#flushFailed = error instanceof Error ? error : new Error(String(error));
      throw error;
    }
  }

  #start(work: () => Promise<void>, done: Done): void {
    const task: Task = { done, error: null };
    this.#work = this.#work.then(work).catch((error: unknown) => {
      task.error = error instanceof Error ? error : new Error(String(error));
    });
    this.#batch.push(task);
  }

  /** What was started since the last time is answered at one moment: it was asked for at one moment, too. `then` follows the last answer. */
  submit(then: () => void): void {
    const batch = this.#batch;
    if (batch.length === 0) return;
    this.#batch = [];
    this.#host.io(this.#work, LATENCY, () => {
      for (const { done, error } of batch) done(error);
      then();
    });
  }

  /** Resolves when every operation asked for so far has ended. */
  async settled(): Promise<void> {
    await this.#work;
  }

  async close(): Promise<void> {
    await this.#work;
    await this.#file.close();
  }
}
