/** A trace's file: opened at boot, written as the trace grows. Every failure is a ConfigError of one sentence. */
import { closeSync, openSync, writeSync } from "node:fs";
import { ConfigError } from "hookvisor";

export class TraceFile {
  readonly #path: string;
  readonly #fd: number;

  /** Opens (and empties) the file. */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#fd = openSync(path, "w");
    } catch (error) {
      throw this.#failure(error);
    }
  }

  write(bytes: Uint8Array): void {
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      throw this.#failure(error);
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  #failure(error: unknown): ConfigError {
    const { code } = error as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? ": there is no such folder" : ` (${code ?? String(error)})`;
    return new ConfigError(`Trace ${this.#path} cannot be written${why}.`);
  }
}
