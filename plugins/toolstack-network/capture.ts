/**
 * A capture file: what every port of every bridge sends, each frame once, with virtual time stamps.
 *
 * Invariant: equal runs give equal bytes; what is buffered is written at the end of the run, however it ends in good order.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { ConfigError } from "hookvisor";
import { type Frame, pcapHeader, pcapRecord } from "../lib-switch/index.ts";

const BUFFER = 1 << 18;

export class Capture {
  readonly #path: string;
  readonly #fd: number;
  #parts: Uint8Array[] = [];
  #size = 0;

  /** Opens (and empties) the file. ConfigError when that cannot be. */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#fd = openSync(path, "w");
    } catch (error) {
      throw this.#failure(error);
    }
    this.#add(pcapHeader());
  }

  #failure(error: unknown): ConfigError {
    return new ConfigError(
      `Capture ${this.#path} cannot be written (${(error as NodeJS.ErrnoException).code ?? String(error)}).`,
    );
  }

  /** A frame of virtual time `now`; `zero` is the wall clock at virtual zero. */
  frame(frame: Frame, now: number, zero: number): void {
    this.#add(pcapRecord(frame, now, zero));
  }

  #add(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#size += bytes.length;
    if (this.#size >= BUFFER) this.flush();
  }

  flush(): void {
    const bytes = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#size = 0;
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      throw this.#failure(error);
    }
  }

  close(): void {
    this.flush();
    closeSync(this.#fd);
  }
}
