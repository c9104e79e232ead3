/**
 * A writer of cpio archives in the form that Linux unpacks as its initramfs ("newc": Documentation/driver-api/early-userspace/buffer-format.rst).
 *
 * Design: a tree of entries by path; folders that nobody made are made, the archive comes out in order of paths, without times and with
 * root as owner, so that equal trees make equal archives.
 */

/** What a path of the archive is. */
export type CpioEntry =
  | { readonly type: "folder"; readonly mode?: number }
  | { readonly type: "file"; readonly content: Uint8Array | string; readonly mode?: number }
  | { readonly type: "link"; readonly target: string }
  | { readonly type: "device"; readonly kind: "character" | "block"; readonly major: number; readonly minor: number };

const S_IFCHR = 0o020000;
const S_IFDIR = 0o040000;
const S_IFBLK = 0o060000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;

/** Longest file: sizes are 32 bits. */
const LONGEST = 0xffff_ffff;

/** A tree of files to be. */
export class CpioTree {
  readonly #entries = new Map<string, CpioEntry>();

  /** Puts an entry at a path (without a leading slash); what was there goes. The folders above are made where they are missing. */
  put(path: string, entry: CpioEntry): void {
    for (let slash = path.indexOf("/"); slash >= 0; slash = path.indexOf("/", slash + 1)) {
      const folder = path.slice(0, slash);
      if (!this.#entries.has(folder)) this.#entries.set(folder, { type: "folder" });
    }
    this.#entries.set(path, entry);
  }

  get(path: string): CpioEntry | undefined {
    return this.#entries.get(path);
  }

  /** Paths in the order of the archive. */
  paths(): readonly string[] {
    return [...this.#entries.keys()].sort();
  }

  /** The archive. */
  archive(): Uint8Array {
    const parts: Uint8Array[] = [];
    let inode = 0;
    for (const path of this.paths()) parts.push(...record(path, this.#entries.get(path)!, ++inode));
    parts.push(...record("TRAILER!!!", null, 0));
    return Buffer.concat(parts);
  }
}

function modeOf(entry: CpioEntry): number {
  switch (entry.type) {
    case "folder":
      return S_IFDIR | (entry.mode ?? 0o755);
    case "file":
      return S_IFREG | (entry.mode ?? 0o644);
    case "link":
      return S_IFLNK | 0o777;
    case "device":
      return (entry.kind === "block" ? S_IFBLK : S_IFCHR) | 0o600;
  }
}

function contentOf(entry: CpioEntry | null): Uint8Array {
  if (entry?.type === "file") return typeof entry.content === "string" ? Buffer.from(entry.content) : entry.content;
  return Buffer.from(entry?.type === "link" ? entry.target : "");
}

const padding = (length: number): Uint8Array => new Uint8Array((4 - (length % 4)) % 4);

/** Header, name and content of one entry, each padded to words; null is the trailer. */
function record(path: string, entry: CpioEntry | null, inode: number): Uint8Array[] {
  const content = contentOf(entry);
  if (content.length > LONGEST) throw new RangeError(`${path} is too long for a cpio archive`);
  const name = Buffer.from(`${path}\0`);
  const device = entry?.type === "device" ? entry : { major: 0, minor: 0 };
  const fields = [
    inode,
    entry === null ? 0 : modeOf(entry),
    0, // uid
    0, // gid
    entry?.type === "folder" ? 2 : 1,
    0, // time
    content.length,
    0, // device the file is on
    0,
    device.major,
    device.minor,
    name.length,
    0, // checksum, of another form
  ];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  return [header, name, padding(header.length + name.length), content, padding(content.length)];
}
