/**
 * Makes an empty ext2 file system, for guests that mount and write one: one group of 4 KiB blocks, 256 inodes.
 * Facts: the kernel's Documentation/filesystems/ext2 and ext4 (super block, group descriptor, inode, linked directory entries).
 */
import { closeSync, openSync, truncateSync, writeSync } from "node:fs";

const BLOCK = 4096;
/** What one block of bitmap can tell of. */
const MOST_BLOCKS = 8 * BLOCK;
const INODES = 256;
const INODE = 128;
const AT = { descriptor: 1, blockBitmap: 2, inodeBitmap: 3, inodes: 4, root: 12, lostFound: 13, free: 14 };
const ROOT = 2;
const LOST_FOUND = 11;
const DIRECTORY = 2;

/** Writes an image of `mebibytes` (at most 128), a sparse file, to `path`. */
export function makeExt2(path: string, mebibytes: number): void {
  const blocks = mebibytes * 256;
  if (!(blocks > AT.free && blocks <= MOST_BLOCKS)) throw new RangeError("an image of one group has 1 to 128 MiB");
  const bytes = new Uint8Array(AT.free * BLOCK);
  const view = new DataView(bytes.buffer);
  const put16 = (at: number, ...values: number[]): void => {
    for (const [i, value] of values.entries()) view.setUint16(at + 2 * i, value, true);
  };
  const put32 = (at: number, ...values: number[]): void => {
    for (const [i, value] of values.entries()) view.setUint32(at + 4 * i, value, true);
  };
  const freeBlocks = blocks - AT.free;
  const freeInodes = INODES - LOST_FOUND;

  // Counts, reserved blocks, free ones, the first block, block and fragment size (log2 of KiB), group sizes.
  put32(1024, INODES, blocks, 0, freeBlocks, freeInodes, 0, 2, 2, MOST_BLOCKS, MOST_BLOCKS, INODES);
  // Mounts and the most of them, magic, clean, go on after errors.
  put16(1024 + 52, 0, 0xffff, 0xef53, 1, 1);
  // Revision 1; first inode, inode size; feature: directory entries have a type; feature: few copies of the super block.
  put32(1024 + 76, 1);
  put32(1024 + 84, LOST_FOUND);
  put16(1024 + 88, INODE);
  put32(1024 + 96, 2, 1);
  bytes.set(new TextEncoder().encode("hookvisor-ext2-1"), 1024 + 104);

  put32(AT.descriptor * BLOCK, AT.blockBitmap, AT.inodeBitmap, AT.inodes);
  put16(AT.descriptor * BLOCK + 12, freeBlocks, freeInodes, 2);

  /** Marks [from, to) as used. */
  const use = (bitmap: number, from: number, to: number): void => {
    for (let i = from; i < to; i++) bytes[bitmap * BLOCK + (i >> 3)]! |= 1 << (i & 7);
  };
  use(AT.blockBitmap, 0, AT.free);
  use(AT.blockBitmap, blocks, MOST_BLOCKS);
  use(AT.inodeBitmap, 0, LOST_FOUND);
  use(AT.inodeBitmap, INODES, MOST_BLOCKS);

  const directory = (inode: number, mode: number, links: number, block: number, parent: number): void => {
    const at = AT.inodes * BLOCK + (inode - 1) * INODE;
    put16(at, 0x4000 | mode);
    put32(at + 4, BLOCK);
    put16(at + 26, links);
    put32(at + 28, BLOCK / 512);
    put32(at + 40, block);
    const entries: [string, number][] = [
      [".", inode],
      ["..", parent],
      ...(inode === ROOT ? [["lost+found", LOST_FOUND] as [string, number]] : []),
    ];
    let entry = block * BLOCK;
    const end = entry + BLOCK;
    for (const [i, [name, number]] of entries.entries()) {
      const length = i === entries.length - 1 ? end - entry : 8 + 4 * Math.ceil(name.length / 4);
      put32(entry, number);
      put16(entry + 4, length);
      bytes.set([name.length, DIRECTORY], entry + 6);
      bytes.set(new TextEncoder().encode(name), entry + 8);
      entry += length;
    }
  };
  directory(ROOT, 0o755, 3, AT.root, ROOT);
  directory(LOST_FOUND, 0o700, 2, AT.lostFound, ROOT);

  const file = openSync(path, "w");
  writeSync(file, bytes);
  closeSync(file);
  truncateSync(path, mebibytes << 20);
}
