/**
 * Debian's own cloud kernels, unmodified, by `hookvisor run NAME`: a shell, what a person types there, disks, the network, and a poweroff that ends in exit code 0.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { fatImage } from "../tools/fat-image.ts";
import { itWithImage } from "../tools/guest-image.ts";
import { hookvisor, type Ran } from "../tools/hookvisor-run.ts";

/** The host name is the domain's, told by DHCP. */
const PROMPT = "root@";
const TIMEOUT = 300_000;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-debian-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Boots an image and types lines at its shell, one a prompt, and poweroff at last. */
function typed(image: string, lines: readonly string[], ...options: readonly string[]): Promise<Ran> {
  const script = join(folder, `${image}.script`);
  writeFileSync(script, [...lines, "poweroff"].map((line) => `expect ${PROMPT}\nsend ${line}\\r\n`).join(""));
  return hookvisor(["run", image, "--input", script, ...options], { cwd: folder, timeout: TIMEOUT });
}

describe("Debian's cloud kernel", () => {
  itWithImage(
    "debian",
    "boots to a shell with job control, mounts a disk, writes one, has an address by DHCP, and powers off",
    async () => {
      writeFileSync(join(folder, "fat.img"), fatImage({ "hello.txt": "hello from a FAT disk\n" }));
      writeFileSync(join(folder, "raw.img"), new Uint8Array(2 << 20));
      const ran = await typed(
        "debian",
        [
          "uname -a; tty; cat /proc/cmdline",
          "cat /proc/cpuinfo",
          "mount /dev/xvda /mnt && cat /mnt/hello.txt",
          "ping -c 1 $(ip route | awk '/default/{print $3}')",
          "sleep 1000 & sleep 0.01; kill %1; wait; echo jobs: $?",
          "dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null; dd if=/tmp/data of=/dev/xvdb bs=64k 2>/dev/null; sync",
          "echo 3 >/proc/sys/vm/drop_caches; head -c 1048576 /dev/xvdb | sha256sum; sha256sum </tmp/data",
        ],
        "--disk",
        "fat.img,raw,xvda,w",
        "--disk",
        "raw.img,raw,xvdb,w",
        "--extra",
        "of=the user",
      );
      expect(ran.stderr).toBe("");
      expect(ran.stdout).toMatch(/^Linux debian 6\.1\.0-\d+-cloud-amd64 #1 SMP .*x86_64 GNU\/Linux$/m);
      expect(ran.stdout).toContain("\n/dev/hvc0\n");
      expect(ran.stdout).toContain("\nconsole=hvc0 cryptomgr.notests of=the user\n");
      expect(ran.stdout).toMatch(/^flags\t\t: .*\bsse2\b.*\bhypervisor\b/m);
      expect(ran.stdout).toContain("\nhello from a FAT disk\n");
      expect(ran.stdout).toContain("1 packets transmitted, 1 packets received, 0% packet loss");
      expect(ran.stdout).not.toContain("job control turned off");
      expect(ran.stdout).toContain("jobs: ");
      const sums = [...ran.stdout.matchAll(/^([0-9a-f]{64}) {2}-$/gm)].map((match) => match[1]);
      expect(sums).toHaveLength(2);
      expect(sums[0]).toBe(sums[1]);
      expect(
        readFileSync(join(folder, "raw.img"))
          .subarray(0, 1 << 20)
          .every((byte) => byte === 0),
      ).toBe(false);
      expect(ran.stdout).not.toMatch(/BUG:|WARNING:|Call Trace|Oops|Kernel panic/);
      expect(ran.code).toBe(0);
    },
    TIMEOUT,
  );

  itWithImage(
    "debian",
    "Ctrl-C ends a program, and the line that is being typed, but not the shell",
    async () => {
      const script = join(folder, "interrupt.script");
      const steps = ["expect PROMPT", "send sh -c 'echo up; exec sleep 1000'\\r", "expect up\\r", "send \\x03"];
      steps.push("expect PROMPT", "send echo status: $?; cut -d. -f1 /proc/uptime\\r");
      steps.push("expect PROMPT", "send never typed\\x03", "expect PROMPT", "send poweroff\\r");
      writeFileSync(script, steps.map((step) => `${step.replace("PROMPT", PROMPT)}\n`).join(""));
      const ran = await hookvisor(["run", "debian", "--input", script], { timeout: TIMEOUT });
      expect(ran.stdout).toMatch(/^status: 130\n\d{1,2}$/m);
      expect(ran.stdout).not.toContain("The shell has ended");
      expect(ran.code).toBe(0);
    },
    TIMEOUT,
  );

  itWithImage(
    "debian-13",
    "of Debian 13 boots to a shell too",
    async () => {
      const ran = await typed("debian-13", ["uname -r; echo $((6 * 7))"]);
      expect(ran.stdout).toMatch(/^6\.12\.\S+-cloud-amd64\n42$/m);
      expect(ran.stdout).not.toMatch(/BUG:|WARNING:|Call Trace|Oops|Kernel panic/);
      expect(ran.code).toBe(0);
    },
    TIMEOUT,
  );
});
