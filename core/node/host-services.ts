/**
 * HostServices by Node: files by real descriptors, terminals by whoever runs the command.
 *
 * Invariants: a file that cannot be used as asked is a ConfigError of one sentence before the domain runs; reads and writes move
 * all the bytes or fail; two writable openings of one file are refused, as its guests would destroy each other's data.
 */
import { constants } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import type { HostFile, HostServices, Terminal } from "../device/device-type.ts";
import type { Domain } from "../domain/domain.ts";
import { ConfigError } from "../errors.ts";

/** The host process's services. */
export class NodeHost implements HostServices {
  /** Makes the terminal of a console; set by the toolstack. */
  terminals: (domain: Domain, index: number) => Terminal = () => new NullTerminal();
  readonly #open = new Map<string, { writers: number; readers: number }>();

  terminal(domain: Domain, index: number): Terminal {
    return this.terminals(domain, index);
  }

  async openFile(path: string, mode: "r" | "rw"): Promise<HostFile> {
    const refuse = (why: string, cause?: unknown): ConfigError => new ConfigError(`File ${path}: ${why}.`, { cause });
    let handle: FileHandle;
    try {
      if ((await stat(path)).isDirectory()) throw refuse("it is a directory, and an image file is wanted");
      handle = await open(path, mode === "rw" ? constants.O_RDWR : constants.O_RDONLY);
    } catch (error) {
      throw error instanceof ConfigError ? error : refuse(reasonOf(error, mode), error);
    }
    try {
      const info = await handle.stat();
      const key = `${info.dev}:${info.ino}`;
      const users = this.#open.get(key) ?? { writers: 0, readers: 0 };
      if (mode === "rw" ? users.writers + users.readers > 0 : users.writers > 0)
        throw refuse(
          users.writers > 0
            ? "another device has it open for writing; attach it read-only to both, or use a copy"
            : "another device reads it; attach it read-only here too, or use a copy",
        );
      if (mode === "rw") users.writers++;
      else users.readers++;
      this.#open.set(key, users);
      const size = info.isBlockDevice() ? await deviceSize(handle) : info.size;
      return new NodeFile(path, handle, size, mode === "rw", () => {
        if (mode === "rw") users.writers--;
        else users.readers--;
        if (users.writers + users.readers === 0) this.#open.delete(key);
      });
    } catch (error) {
      await handle.close();
      throw error;
    }
  }
}

function reasonOf(error: unknown, mode: "r" | "rw"): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case "ENOENT":
      return "there is no such file";
    case "ENOTDIR":
      return "a part of its path is no directory";
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return mode === "rw"
        ? "you may not write it; attach it read-only (access r), or change its permissions"
        : "you may not read it";
    default:
      return `it cannot be opened (${error instanceof Error ? error.message : String(error)})`;
  }
}

/** Size of a block device: the last byte that can be read, by bisection. */
async function deviceSize(handle: FileHandle): Promise<number> {
  const byte = new Uint8Array(1);
  const readable = async (at: number): Promise<boolean> => (await handle.read(byte, 0, 1, at)).bytesRead === 1;
  let low = 0;
  let high = 1;
  while (high < 2 ** 52 && (await readable(high - 1))) {
    low = high;
    high *= 2;
  }
  while (low < high - 1) {
    const middle = Math.floor((low + high) / 2);
    if (await readable(middle - 1)) low = middle;
    else high = middle;
  }
  return low;
}

class NodeFile implements HostFile {
  readonly path: string;
  readonly size: number;
  readonly writable: boolean;
  readonly #handle: FileHandle;
  #released: (() => void) | null;

  constructor(path: string, handle: FileHandle, size: number, writable: boolean, released: () => void) {
    this.path = path;
    this.#handle = handle;
    this.size = size;
    this.writable = writable;
    this.#released = released;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length; ) {
      const { bytesRead } = await this.#handle.read(into, done, into.length - done, offset + done);
      if (bytesRead === 0) {
        // The last sector of a file whose size is no multiple of 512, or a file that was cut under our hands.
        if (offset + done >= this.size) return void into.fill(0, done);
        throw new Error(`${this.path} ends at ${offset + done}, before its ${this.size} bytes`);
      }
      done += bytesRead;
    }
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    for (let done = 0; done < from.length; )
      done += (await this.#handle.write(from, done, from.length - done, offset + done)).bytesWritten;
  }

  async flush(): Promise<void> {
    await this.#handle.datasync();
  }

  async close(): Promise<void> {
    const released = this.#released;
    if (released === null) return;
    this.#released = null;
    try {
      if (this.writable) await this.#handle.sync();
    } finally {
      await this.#handle.close();
      released();
    }
  }
}

/** A terminal that nobody looks at. */
export class NullTerminal implements Terminal {
  write(): void {}
  read(): Uint8Array {
    return new Uint8Array(0);
  }
  onInput(): void {}
}
