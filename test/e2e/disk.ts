/**
 * Debian's own block frontend on an ext2 disk: a file written, synced, read back from the disk with the same sha256; discarded again; a second disk is
 * an overlay, whose image stays as it is. Shared by the short and the long form.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { makeExt2 } from "../tools/ext2-image.ts";
import { hookvisor } from "../tools/hookvisor-run.ts";

/** Writes and reads `mebibytes`; `timeout` in host milliseconds. */
export async function writeAndReadBack(mebibytes: number, timeout: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "hookvisor-disk-"));
  try {
    const [disk, base] = [join(folder, "disk.img"), join(folder, "base.img")];
    makeExt2(disk, 96);
    makeExt2(base, 16);
    const before = readFileSync(base);
    const lines = [
      "dmesg | grep blkfront; dmesg | grep FIFO",
      `mount /dev/xvda /mnt && head -c ${mebibytes << 20} /dev/urandom >/mnt/data && sha256sum </mnt/data`,
      "sync; umount /mnt; echo 3 >/proc/sys/vm/drop_caches; mount /dev/xvda /mnt; sha256sum </mnt/data",
      "mkdir /cow; mount /dev/xvdb /cow; echo changed >/cow/note; umount /cow; mount /dev/xvdb /cow; cat /cow/note",
      "echo second >/mnt/second; rm /mnt/data; sync; fstrim -v /mnt; umount /mnt; echo done: $?",
      "poweroff",
    ];
    const script = join(folder, "script");
    writeFileSync(script, lines.map((line) => `expect root@debian:\nsend ${line}\\r\\n\n`).join(""));
    const disks = ["--disk", `${disk},raw,xvda,w`, "--disk", `${base},raw,xvdb,w,cow=temp`];
    const ran = await hookvisor(["run", "debian", "--input", script, ...disks], { timeout });
    expect(ran.stderr).toBe("");
    for (const name of ["xvda", "xvdb"])
      expect(ran.stdout).toContain(
        `${name}: flush diskcache: enabled; persistent grants: enabled; indirect descriptors: enabled`,
      );
    expect(ran.stdout).toContain("xen:events: Using FIFO-based ABI");
    const sums = [...ran.stdout.matchAll(/^([0-9a-f]{64}) {2}-$/gm)].map((match) => match[1]);
    expect(sums).toHaveLength(2);
    expect(sums[1]).toBe(sums[0]);
    expect(ran.stdout).toContain("\nchanged\n");
    expect(ran.stdout).toMatch(/^\/mnt: \d+ bytes trimmed$/m);
    expect(ran.stdout).toContain("\ndone: 0\n");
    expect(ran.stdout).not.toMatch(/I\/O error|EXT4-fs error|BUG:|WARNING:|Call Trace|Oops|Kernel panic/);
    expect(ran.code).toBe(0);
    // The overlay's base is as it was; what was given up takes no room.
    const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
    expect(sha256(readFileSync(base))).toBe(sha256(before));
    if (process.platform === "linux") expect(statSync(disk).blocks * 512).toBeLessThan(mebibytes << 20);
    expect(readFileSync(disk).includes("second\n")).toBe(true);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
