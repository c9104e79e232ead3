/**
 * HostServices by Node: files by real descriptors, terminals by whoever runs the command.
 *
 * Invariants: a file that cannot be used as asked is a ConfigError of one sentence before the domain runs; reads and writes move
 * all the bytes or fail; two writable openings of one file are refused, as its guests would destroy each other's data; a file
 * that is made here is there after a crash of the host, or not at all.
 */
import { spawn } from "node:child_process";
import { constants } from "node:fs";
import { type FileHandle, mkdtemp, open, rm, stat, unlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { HostFile, HostServices, NewFile, Terminal } from "../device/device-type.ts";
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

  async openFile(path: string, mode: "r" | "rw", create?: NewFile): Promise<HostFile> {
    const refuse = (why: string, cause?: unknown): ConfigError => new ConfigError(`File ${path}: ${why}.`, { cause });
    let handle: FileHandle | null = null;
    let discarded = async (): Promise<void> => {};
    try {
      if (create?.temporary === true) ({ handle, discarded } = await openTemporary(create.size));
      else {
        if (create !== undefined) handle = await makeFile(path, create.size);
        if (handle === null) {
          if ((await stat(path)).isDirectory()) throw refuse("it is a directory, and an image file is wanted");
          handle = await open(path, mode === "rw" ? constants.O_RDWR : constants.O_RDONLY);
        }
      }
    } catch (error) {
      throw error instanceof ConfigError ? error : refuse(reasonOf(error, mode, create !== undefined), error);
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
      const released = async (): Promise<void> => {
        if (mode === "rw") users.writers--;
        else users.readers--;
        if (users.writers + users.readers === 0) this.#open.delete(key);
        await discarded();
      };
      const punches = mode === "rw" && info.isFile() && (await canPunch(handle, size));
      return new NodeFile(
        path,
        handle,
        { size, writable: mode === "rw", punches, lasting: !create?.temporary },
        released,
      );
    } catch (error) {
      await handle.close();
      await discarded();
      throw error;
    }
  }
}

/** Makes a file with holes only, which a crash of the host does not take away again; null: there is one already. */
async function makeFile(path: string, size: number): Promise<FileHandle | null> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return null;
    throw error;
  }
  try {
    await handle.truncate(size);
    await handle.sync();
    await syncFolder(dirname(path));
    return handle;
  } catch (error) {
    await handle.close();
    await unlink(path);
    throw error;
  }
}

/** Makes a new name in a folder last. Not every host can: it is done as well as there is a way. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const folder = await open(path, constants.O_RDONLY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** A file without a name, where the host allows that; else it goes when it is closed. */
async function openTemporary(size: number): Promise<{ handle: FileHandle; discarded: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "hookvisor-"));
  const discarded = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const handle = await makeFile(join(folder, "file"), size);
    if (handle === null) throw new Error("a file in a new folder exists already");
    if (process.platform !== "win32") await discarded();
    return { handle, discarded };
  } catch (error) {
    await discarded();
    throw error;
  }
}

/** Makes a hole in a file, by the program that Linux has for it: Node has no such call. */
function punch(handle: FileHandle, offset: number, length: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const args = ["--punch-hole", "--offset", String(offset), "--length", String(length), "/proc/self/fd/3"];
    const child = spawn("fallocate", args, { stdio: ["ignore", "ignore", "ignore", handle.fd] });
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`fallocate ended with ${code}`));
    });
  });
}

/** Can holes be made in this file? Tried beyond its end, where it changes nothing. */
async function canPunch(handle: FileHandle, size: number): Promise<boolean> {
  if (process.platform !== "linux") return false;
  return punch(handle, Math.ceil(size / 4096) * 4096, 4096).then(
    () => true,
    () => false,
  );
}

function reasonOf(error: unknown, mode: "r" | "rw", made: boolean): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case "ENOENT":
      return made ? "it cannot be made: there is no such folder" : "there is no such file";
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

/** What is known of a file when it is opened. */
interface FileFacts {
  readonly size: number;
  readonly writable: boolean;
  /** Holes can be made in it. */
  readonly punches: boolean;
  /** Somebody may want it after its closing. */
  readonly lasting: boolean;
}

class NodeFile implements HostFile {
  readonly path: string;
  readonly size: number;
  readonly writable: boolean;
  readonly discard?: (offset: number, length: number) => Promise<void>;
  readonly #handle: FileHandle;
  readonly #lasting: boolean;
  #released: (() => Promise<void>) | null;

  constructor(path: string, handle: FileHandle, facts: FileFacts, released: () => Promise<void>) {
    this.path = path;
    this.#handle = handle;
    this.size = facts.size;
    this.writable = facts.writable;
    this.#lasting = facts.lasting;
    this.#released = released;
    if (facts.punches) this.discard = (offset, length) => punch(handle, offset, length);
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
      if (this.writable && this.#lasting) await this.#handle.sync();
    } finally {
      await this.#handle.close();
      await released();
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
