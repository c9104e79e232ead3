/**
 * Reads a .deb without dpkg (deb(5)): an `ar` archive whose member `data.tar[.xz|.gz|.zst]` is a tar archive in ustar,
 * GNU or pax form. Everything streams: a package of hundreds of megabytes costs a few buffers.
 *
 * Invariants: a malformed archive is a DebianError("damaged"), never another exception and never an endless loop;
 * a path that an entry names is normalised and never leaves the archive's root.
 */
import { type FileHandle, open } from "node:fs/promises";
import { Readable } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import xz from "xz-decompress";
import { DebianError } from "./errors.ts";

/** One entry of the package's file tree. */
export interface DebEntry {
  /** Path without a leading `./` or `/`; a folder has no trailing slash. */
  readonly path: string;
  readonly type: "file" | "folder" | "symlink" | "hardlink" | "other";
  /** Bytes of content; 0 unless type is file. */
  readonly size: number;
  /** Permission bits, as of chmod. */
  readonly mode: number;
  /** Target of a symlink (as stored) or hardlink (a path of this package); else empty. */
  readonly link: string;
}

/** Takes the content of one entry, in order; a chunk is valid until it answers. */
export type DebSink = (chunk: Uint8Array) => void | Promise<void>;

/** Is told of each entry; answers a sink for the content, null to pass over it, or "stop" to see no more. */
export type DebVisitor = (entry: DebEntry) => DebSink | null | "stop";

interface ArMember {
  readonly name: string;
  readonly start: number;
  readonly size: number;
}

const damaged = (what: string, cause?: unknown): DebianError =>
  new DebianError("damaged", `The Debian package is damaged: ${what}.`, cause === undefined ? undefined : { cause });

const latin1 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");

/** Lists the members of an ar archive (common format; the names of a .deb are short). */
async function arMembers(file: FileHandle): Promise<ArMember[]> {
  const { size: length } = await file.stat();
  const magic = new Uint8Array(8);
  await file.read(magic, 0, 8, 0);
  if (latin1(magic) !== "!<arch>\n") throw damaged("it is not an ar archive");
  const members: ArMember[] = [];
  for (let at = 8; at + 60 <= length; ) {
    const header = new Uint8Array(60);
    await file.read(header, 0, 60, at);
    const text = latin1(header);
    const digits = text.slice(48, 58).trim();
    if (text.slice(58) !== "`\n" || !/^\d+$/.test(digits)) throw damaged("a member's header makes no sense");
    const size = Number(digits);
    if (at + 60 + size > length) throw damaged("it ends too early");
    members.push({ name: text.slice(0, 16).trim().replace(/\/$/, ""), start: at + 60, size });
    at += 60 + size + (size & 1);
  }
  return members;
}

/** Decompresses a member by its name's ending. */
function decompressed(name: string, raw: Readable): AsyncIterable<Uint8Array> {
  if (name.endsWith(".tar")) return raw;
  if (name.endsWith(".gz")) return raw.pipe(createGunzip());
  if (name.endsWith(".zst")) return raw.pipe(createZstdDecompress());
  if (name.endsWith(".xz")) {
    const web = new xz.XzReadableStream(Readable.toWeb(raw) as ReadableStream<Uint8Array>);
    return Readable.fromWeb(web as Parameters<typeof Readable.fromWeb>[0]);
  }
  throw damaged(`it is packed in an unknown way (${name})`);
}

/** Hands out exactly as many bytes as asked for from a stream of chunks. */
class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  async #some(): Promise<Uint8Array | null> {
    while (this.#rest.length === 0) {
      const next = await this.#chunks.next();
      if (next.done === true) return null;
      this.#rest = next.value;
    }
    return this.#rest;
  }

  /** Passes the next `length` bytes to `sink` (or drops them). */
  async pass(length: number, sink: DebSink | null): Promise<void> {
    for (let left = length; left > 0; ) {
      const chunk = await this.#some();
      if (chunk === null) throw damaged("its content ends too early");
      const part = chunk.subarray(0, left);
      this.#rest = chunk.subarray(part.length);
      left -= part.length;
      if (sink !== null) await sink(part);
    }
  }

  /** The next `length` bytes as one array; null where the stream ends exactly here. */
  async take(length: number): Promise<Uint8Array | null> {
    if ((await this.#some()) === null) return null;
    const whole = new Uint8Array(length);
    let at = 0;
    await this.pass(length, (part) => {
      whole.set(part, at);
      at += part.length;
    });
    return whole;
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}

const BLOCK = 512;
/** Longest extended header that is read: real ones are a path long. */
const LONGEST_HEADER = 1 << 20;

const text = (block: Uint8Array, from: number, length: number): string => {
  const field = block.subarray(from, from + length);
  const end = field.indexOf(0);
  return Buffer.from(end < 0 ? field : field.subarray(0, end)).toString("utf8");
};

/** A number of a tar header: octal, or base 256 where the first bit is set (GNU). */
function tarNumber(block: Uint8Array, from: number, length: number): number {
  const first = block[from] ?? 0;
  if ((first & 0x80) !== 0) {
    let value = first & 0x7f;
    for (let i = 1; i < length; i++) value = value * 256 + (block[from + i] ?? 0);
    if (!Number.isSafeInteger(value)) throw damaged("an entry's size makes no sense");
    return value;
  }
  const digits = text(block, from, length).trim();
  if (!/^[0-7]*$/.test(digits)) throw damaged("an entry's header makes no sense");
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

function checkTarSum(block: Uint8Array): void {
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += block[i] ?? 0;
  if (tarNumber(block, 148, 8) !== sum) throw damaged("an entry's checksum is wrong");
}

/** The records of a pax header: `LENGTH KEY=VALUE\n`, LENGTH counting the whole record in bytes. */
function paxRecords(bytes: Uint8Array): Map<string, string> {
  const records = new Map<string, string>();
  const all = Buffer.from(bytes);
  for (let at = 0; at < all.length; ) {
    const space = all.indexOf(0x20, at);
    const length = space < 0 ? Number.NaN : Number(all.toString("latin1", at, space));
    if (!Number.isInteger(length) || length <= space - at || at + length > all.length)
      throw damaged("a pax header makes no sense");
    const record = all.toString("utf8", space + 1, at + length - 1);
    const equals = record.indexOf("=");
    records.set(record.slice(0, equals), record.slice(equals + 1));
    at += length;
  }
  return records;
}

/** Removes `.`, `..` and empty steps from a path; never climbs above the root. */
export function normalPath(path: string): string {
  const steps: string[] = [];
  for (const step of path.split("/")) {
    if (step === "..") steps.pop();
    else if (step !== "" && step !== ".") steps.push(step);
  }
  return steps.join("/");
}

const TYPES: Readonly<Record<string, DebEntry["type"]>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  "1": "hardlink",
  "2": "symlink",
  "5": "folder",
};

/** Walks a tar stream. */
async function walkTar(reader: ByteReader, visit: DebVisitor): Promise<void> {
  let longName: string | null = null;
  let longLink: string | null = null;
  let pax = new Map<string, string>();
  for (;;) {
    const block = await reader.take(BLOCK);
    if (block === null || block.every((byte) => byte === 0)) return;
    checkTarSum(block);
    let size = tarNumber(block, 124, 12);
    const flag = String.fromCharCode(block[156] ?? 0);
    if (flag === "L" || flag === "K" || flag === "x" || flag === "g") {
      if (size > LONGEST_HEADER) throw damaged("an entry's name makes no sense");
      const padded = size === 0 ? new Uint8Array(0) : await reader.take(Math.ceil(size / BLOCK) * BLOCK);
      if (padded === null) throw damaged("its content ends too early");
      if (flag === "L") longName = text(padded, 0, size);
      else if (flag === "K") longLink = text(padded, 0, size);
      else if (flag === "x") pax = paxRecords(padded.subarray(0, size));
      continue;
    }
    const prefix = text(block, 257, 5) === "ustar" && block[262] === 0 ? text(block, 345, 155) : "";
    const shortName = text(block, 0, 100);
    const name = pax.get("path") ?? longName ?? (prefix === "" ? shortName : `${prefix}/${shortName}`);
    const link = pax.get("linkpath") ?? longLink ?? text(block, 157, 100);
    if (pax.has("size")) size = Number(pax.get("size"));
    if (!Number.isSafeInteger(size) || size < 0) throw damaged("an entry's size makes no sense");
    const type = TYPES[flag] ?? "other";
    const stored = type === "file" || type === "other" ? size : 0;
    const answer = visit({
      path: normalPath(name),
      type,
      size: type === "file" ? size : 0,
      mode: tarNumber(block, 100, 8) & 0o7777,
      link: type === "hardlink" ? normalPath(link) : type === "symlink" ? link : "",
    });
    if (answer === "stop") return;
    await reader.pass(stored, type === "file" ? answer : null);
    await reader.pass((BLOCK - (stored % BLOCK)) % BLOCK, null);
    longName = null;
    longLink = null;
    pax = new Map();
  }
}

/**
 * Walks the file tree of a .deb in the order it is stored.
 * @param path the .deb
 * @throws DebianError "damaged"; whatever a sink throws
 */
export async function walkDeb(path: string, visit: DebVisitor): Promise<void> {
  const file = await open(path, "r");
  try {
    const members = await arMembers(file);
    if (members[0]?.name !== "debian-binary") throw damaged("it does not start with debian-binary");
    const data = members.find((member) => member.name === "data.tar" || member.name.startsWith("data.tar."));
    if (data === undefined) throw damaged("it has no data.tar");
    if (data.size === 0) throw damaged("its data.tar is empty");
    const raw = file.createReadStream({ start: data.start, end: data.start + data.size - 1, autoClose: false });
    const unpacked = decompressed(data.name, raw);
    // pipe() does not forward errors: a failing read ends the unpacked stream too.
    if (unpacked instanceof Readable && unpacked !== raw) raw.on("error", (error) => unpacked.destroy(error));
    const reader = new ByteReader(unpacked);
    let inSink: unknown = null;
    try {
      await walkTar(reader, (entry) => {
        const sink = visit(entry);
        if (sink === null || sink === "stop") return sink;
        return async (chunk) => {
          try {
            await sink(chunk);
          } catch (error) {
            inSink = error;
            throw error;
          }
        };
      });
    } catch (error) {
      if (error instanceof DebianError || error === inSink) throw error;
      throw damaged("it does not decompress", error);
    } finally {
      await reader.close();
      raw.destroy();
    }
  } finally {
    await file.close();
  }
}
