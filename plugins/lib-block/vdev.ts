/**
 * Names of virtual disks and their numbers, as Xen's vbd interface has them (xen-vbd-interface(7)): xvda is 202 << 8, hda 3 << 8, sda 8 << 8,
 * disks beyond what those can number are 1 << 28 | disk << 8 | partition.
 */

/** Number of a vdev such as xvda, xvda1, hdc, sdb2, d5p1 or 51712, with `virtio` also vda, which is xvda; null: no such name. */
export function vdevNumber(name: string, virtio = false): number | null {
  const numeric = /^(?:0x[0-9a-fA-F]{1,8}|\d{1,10})$/.exec(name);
  if (numeric !== null) {
    const value = Number(name);
    return value < 2 ** 31 ? value : null;
  }
  const plain = /^d(\d{1,7})(?:p(\d{1,3}))?$/.exec(name);
  if (plain !== null) return virtual(Number(plain[1]), Number(plain[2] ?? 0));
  const match = /^(xvd|hd|sd)([a-z]{1,4})(\d{1,3})?$/.exec(virtio ? name.replace(/^vd/, "xvd") : name);
  if (match === null) return null;
  const disk = diskOf(match[2]!);
  const partition = Number(match[3] ?? 0);
  if (match[3] !== undefined && partition === 0) return null;
  switch (match[1]) {
    case "xvd":
      return virtual(disk, partition);
    case "hd":
      return disk <= 3 && partition <= 63 ? ((disk < 2 ? 3 : 22) << 8) | ((disk & 1) << 6) | partition : null;
    default:
      return disk <= 15 && partition <= 15 ? (8 << 8) | (disk << 4) | partition : null;
  }
}

function virtual(disk: number, partition: number): number | null {
  if (disk <= 15 && partition <= 15) return (202 << 8) | (disk << 4) | partition;
  return disk < 1 << 20 && partition <= 255 ? (1 << 28) | (disk << 8) | partition : null;
}

/** a is 0, z is 25, aa is 26. */
function diskOf(letters: string): number {
  let disk = 0;
  for (const letter of letters) disk = disk * 26 + letter.charCodeAt(0) - 96;
  return disk - 1;
}
