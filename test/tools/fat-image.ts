/**
 * Makes a small FAT12 disk image without a partition table, for guests that read one (GRUB).
 * Facts: Microsoft's FAT specification 1.03: BIOS parameter block, 12-bit entries, 32-byte directory entries in 8.3 form.
 */

const SECTOR = 512;
const SECTORS = 2880;
const FAT_SECTORS = 9;
const ROOT_ENTRIES = 224;
const ROOT_SECTORS = (ROOT_ENTRIES * 32) / SECTOR;
const FIRST_DATA = 1 + 2 * FAT_SECTORS + ROOT_SECTORS;

/**
 * A 1.44 MB image with `files` in its root folder.
 * @param files content by name; names are 8.3 (letters, digits), stored in capitals
 */
export function fatImage(files: Readonly<Record<string, string | Uint8Array>>): Uint8Array {
  const image = new Uint8Array(SECTORS * SECTOR);
  const view = new DataView(image.buffer);
  const text = (at: number, value: string): void => image.set(new TextEncoder().encode(value), at);
  image.set([0xeb, 0x3c, 0x90], 0);
  text(3, "HOOKVISO");
  view.setUint16(11, SECTOR, true);
  view.setUint8(13, 1); // sectors a cluster
  view.setUint16(14, 1, true); // reserved sectors
  view.setUint8(16, 2); // copies of the FAT
  view.setUint16(17, ROOT_ENTRIES, true);
  view.setUint16(19, SECTORS, true);
  view.setUint8(21, 0xf0); // medium
  view.setUint16(22, FAT_SECTORS, true);
  view.setUint16(24, 18, true); // sectors a track
  view.setUint16(26, 2, true); // heads
  view.setUint8(38, 0x29);
  view.setUint32(39, 0x12345678, true); // serial number
  text(43, "HOOKVISOR  FAT12   ");
  view.setUint16(510, 0xaa55, true);

  const fat = new Uint8Array(FAT_SECTORS * SECTOR);
  const link = (cluster: number, next: number): void => {
    const at = (cluster * 3) >> 1;
    const [low, high] = [fat[at] ?? 0, fat[at + 1] ?? 0];
    if (cluster % 2 === 0) {
      fat[at] = next & 0xff;
      fat[at + 1] = (high & 0xf0) | (next >> 8);
    } else {
      fat[at] = (low & 0x0f) | ((next & 0xf) << 4);
      fat[at + 1] = next >> 4;
    }
  };
  link(0, 0xff0);
  link(1, 0xfff);

  let cluster = 2;
  let entry = (1 + 2 * FAT_SECTORS) * SECTOR;
  for (const [name, value] of Object.entries(files)) {
    const match = /^([A-Za-z0-9]{1,8})(?:\.([A-Za-z0-9]{1,3}))?$/.exec(name);
    if (match === null) throw new Error(`not an 8.3 name: ${name}`);
    const content = typeof value === "string" ? new TextEncoder().encode(value) : value;
    const count = Math.ceil(content.length / SECTOR);
    if (FIRST_DATA + cluster - 2 + count > SECTORS) throw new Error("the files do not fit");
    text(entry, (match[1] ?? "").toUpperCase().padEnd(8) + (match[2] ?? "").toUpperCase().padEnd(3));
    view.setUint8(entry + 11, 0x20); // archive
    view.setUint16(entry + 24, 0x4a21, true); // 2017-01-01
    view.setUint16(entry + 26, count === 0 ? 0 : cluster, true);
    view.setUint32(entry + 28, content.length, true);
    image.set(content, (FIRST_DATA + cluster - 2) * SECTOR);
    for (let i = 0; i < count; i++) link(cluster + i, i + 1 < count ? cluster + i + 1 : 0xfff);
    cluster += count;
    entry += 32;
  }
  image.set(fat, SECTOR);
  image.set(fat, (1 + FAT_SECTORS) * SECTOR);
  return image;
}
