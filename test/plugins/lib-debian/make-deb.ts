/** Builds small synthetic .deb files for tests: an ar archive with a tar archive, in the forms that packages come in. */
import { gzipSync, zstdCompressSync } from "node:zlib";

/** An entry of the synthetic package. */
export interface MadeEntry {
  readonly path: string;
  readonly content?: string | Uint8Array;
  /** 2: symlink, 1: hardlink, 5: folder; default a file. */
  readonly type?: "0" | "1" | "2" | "5";
  readonly link?: string;
  /** How a long path is stored; default as it is in the header. */
  readonly long?: "gnu" | "pax" | "prefix";
}

const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);

function header(name: string, type: string, size: number, link = "", prefix = ""): Buffer {
  const block = Buffer.alloc(512);
  block.write(name.slice(0, 100), 0);
  block.write("0000644\0", 100);
  block.write("0000000\0", 108);
  block.write("0000000\0", 116);
  block.write(`${size.toString(8).padStart(11, "0")}\0`, 124);
  block.write("00000000000\0", 136);
  block.write("        ", 148);
  block.write(type, 156);
  block.write(link.slice(0, 100), 157);
  block.write("ustar\x0000", 257);
  block.write(prefix, 345);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}

/** A tar archive of the entries. */
export function makeTar(entries: readonly MadeEntry[]): Buffer {
  const parts: Buffer[] = [];
  for (const entry of entries) {
    const type = entry.type ?? "0";
    const content = Buffer.from(entry.content ?? "");
    let name = entry.path;
    let prefix = "";
    if (entry.long === "gnu") {
      const long = Buffer.from(`${name}\0`);
      parts.push(header("././@LongLink", "L", long.length), padded(long));
      name = name.slice(0, 100);
    } else if (entry.long === "pax") {
      const tail = ` path=${name}\n`;
      let length = tail.length + 1;
      while (String(length).length + tail.length !== length) length = String(length).length + tail.length;
      const record = Buffer.from(`${length}${tail}`);
      parts.push(header("PaxHeaders/x", "x", record.length), padded(record));
      name = "short";
    } else if (entry.long === "prefix") {
      const at = name.lastIndexOf("/");
      prefix = name.slice(0, at);
      name = name.slice(at + 1);
    }
    parts.push(header(name, type, type === "0" ? content.length : 0, entry.link, prefix));
    if (type === "0") parts.push(padded(content));
  }
  parts.push(Buffer.alloc(1024));
  return Buffer.concat(parts);
}

/** An ar archive of named members. */
export function makeAr(members: readonly (readonly [string, Buffer])[]): Buffer {
  const parts: Buffer[] = [Buffer.from("!<arch>\n")];
  for (const [name, data] of members) {
    const head = `${name.padEnd(16)}${"0".padEnd(12)}${"0".padEnd(6)}${"0".padEnd(6)}${"100644".padEnd(8)}`;
    parts.push(Buffer.from(`${head}${String(data.length).padEnd(10)}\`\n`), data);
    if (data.length % 2 === 1) parts.push(Buffer.from("\n"));
  }
  return Buffer.concat(parts);
}

/** A .deb whose data member is packed as `form` says; xz has no encoder here, so its member is handed in. */
export function makeDeb(entries: readonly MadeEntry[], form: "tar" | "gz" | "zst" = "gz"): Buffer {
  const tar = makeTar(entries);
  const data = form === "gz" ? gzipSync(tar) : form === "zst" ? zstdCompressSync(tar) : tar;
  return makeAr([
    ["debian-binary", Buffer.from("2.0\n")],
    ["control.tar.gz", gzipSync(makeTar([{ path: "./control", content: "Package: made\n" }]))],
    [form === "tar" ? "data.tar" : `data.tar.${form}`, data],
  ]);
}
