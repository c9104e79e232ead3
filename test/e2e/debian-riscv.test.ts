/**
 * Debian 13's kernel for RISC-V, unmodified, by `hookvisor run debian-riscv64`: a shell on the serial port, a virtio disk, the network, one hart and four,
 * a poweroff that ends in exit code 0; and beside an x86 PV domain in one machine, with packets between the two.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { fatImage } from "../tools/fat-image.ts";
import { itWithImage } from "../tools/guest-image.ts";
import { hookvisor, linesOf, type Ran } from "../tools/hookvisor-run.ts";

const PROMPT = "root@";
const TIMEOUT = 300_000;
/** What a kernel says when something is wrong. */
const TROUBLE = /BUG:|WARNING:|Call Trace|Oops|Kernel panic|unhandled signal/;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-debian-riscv-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Boots the image and types lines at its shell, one a prompt, and poweroff at last. */
function typed(lines: readonly string[], ...options: readonly string[]): Promise<Ran> {
  const script = join(folder, "script");
  writeFileSync(script, [...lines, "poweroff"].map((line) => `expect ${PROMPT}\nsend ${line}\\r\n`).join(""));
  return hookvisor(["run", "debian-riscv64", "--input", script, ...options], { cwd: folder, timeout: TIMEOUT });
}

describe("Debian's kernel for RISC-V", () => {
  itWithImage(
    "debian-riscv64",
    "boots to a shell with job control, mounts a disk, writes one, has an address by DHCP, and powers off",
    async () => {
      writeFileSync(join(folder, "fat.img"), fatImage({ "hello.txt": "hello from a FAT disk\n" }));
      writeFileSync(join(folder, "raw.img"), new Uint8Array(2 << 20));
      const ran = await typed(
        [
          "uname -a; tty; cat /proc/cmdline",
          "cat /proc/cpuinfo; ls /proc/device-tree/hypervisor | cat",
          "mount /dev/vda /mnt && cat /mnt/hello.txt",
          "ping -c 1 $(ip route | awk '/default/{print $3}')",
          "sleep 1000 & sleep 0.01; kill %1; wait; echo jobs: $?",
          "awk 'BEGIN { print 22 / 7, 1e10 / 3, int(-7.5) }'",
          "dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null; dd if=/tmp/data of=/dev/vdb bs=64k 2>/dev/null; sync",
          "echo 3 >/proc/sys/vm/drop_caches; head -c 1048576 /dev/vdb | sha256sum; sha256sum </tmp/data",
        ],
        "--disk",
        "fat.img,raw,xvda,w",
        "--disk",
        "raw.img,raw,xvdb,w",
        "--extra",
        "loglevel=4",
      );
      expect(ran.stderr).toBe("");
      expect(ran.stdout).toMatch(/^Linux debian-riscv64 6\.12\.\S+-riscv64 #1 SMP .*riscv64 GNU\/Linux$/m);
      expect(ran.stdout).toContain("\n/dev/ttyS0\n");
      expect(ran.stdout).toContain("\nconsole=ttyS0 cryptomgr.notests loglevel=4\n");
      expect(ran.stdout).toMatch(/^isa\t\t: rv64imafdc_zicntr_zicsr_zifencei_zihintpause/m);
      expect(ran.stdout).toMatch(/^mmu\t\t: sv48$/m);
      expect(ran.stdout).toContain("\ncompatible\ninterrupts-extended\nname\nreg\n");
      expect(ran.stdout).toContain("\nhello from a FAT disk\n");
      expect(ran.stdout).toContain("1 packets transmitted, 1 packets received, 0% packet loss");
      expect(ran.stdout).not.toContain("job control turned off");
      expect(ran.stdout).toContain("jobs: ");
      expect(ran.stdout).toContain("\n3.14286 3.33333e+09 -7\n");
      const sums = [...ran.stdout.matchAll(/^([0-9a-f]{64}) {2}-$/gm)].map((match) => match[1]);
      expect(sums).toHaveLength(2);
      expect(sums[0]).toBe(sums[1]);
      expect(
        readFileSync(join(folder, "raw.img"))
          .subarray(0, 1 << 20)
          .every((byte) => byte === 0),
      ).toBe(false);
      expect(ran.stdout).not.toMatch(TROUBLE);
      expect(ran.code).toBe(0);
    },
    TIMEOUT,
  );

  itWithImage(
    "debian-riscv64",
    "runs on four harts, which all work, and the kernel stops and starts one",
    async () => {
      const ran = await typed(
        [
          "nproc; for i in 1 2 3 4; do (for j in $(seq 3000); do :; done; echo done $i) & done; wait",
          "cat /proc/interrupts",
          "echo 0 >/sys/devices/system/cpu/cpu2/online; nproc; echo 1 >/sys/devices/system/cpu/cpu2/online; nproc",
        ],
        "--vcpus",
        "4",
        "--pcpus",
        "2",
        "--extra",
        "loglevel=4",
      );
      expect(ran.stdout).toMatch(/wait\n(?:root@.*\n)?4\n/);
      for (const i of [1, 2, 3, 4]) expect(ran.stdout).toContain(`\ndone ${i}\n`);
      const timer = / *\d+: +(\d+) +(\d+) +(\d+) +(\d+) +RISC-V INTC +5 Edge +riscv-timer/.exec(ran.stdout);
      expect(timer?.slice(1).every((count) => Number(count) > 10)).toBe(true);
      const calls = /^IPI1: +(\d+) +(\d+) +(\d+) +(\d+) +Function call interrupts/m.exec(ran.stdout);
      expect(calls?.slice(1).every((count) => Number(count) > 0)).toBe(true);
      expect(ran.stdout).toMatch(/\n3\n4\n/);
      expect(ran.stdout).not.toMatch(TROUBLE);
      expect(ran.code).toBe(0);
    },
    TIMEOUT,
  );

  itWithImage(
    "debian-riscv64",
    "and Debian 12 as an x86 PV domain run in one machine, under one scheduler, and reach each other",
    async () => {
      const pulled = await hookvisor(["images", "pull", "debian", "-q"], { timeout: TIMEOUT });
      expect(pulled.code).toBe(0);
      const script = join(folder, "two");
      const steps = [
        `debian: expect ${PROMPT}`,
        `debian-riscv64: expect ${PROMPT}`,
        "debian: send uname -m; ip -4 addr show eth0 | grep inet\\r",
        `debian: expect ${PROMPT}`,
        "debian-riscv64: send uname -m; ip -4 addr show eth0 | grep inet\\r",
        `debian-riscv64: expect ${PROMPT}`,
        // Addresses are handed out in the order of asking: each tries both, and answers to its own, too.
        "debian-riscv64: send for n in 2 3; do ping -c 2 10.0.0.$n | grep received; done\\r",
        `debian-riscv64: expect ${PROMPT}`,
        "debian: send for n in 2 3; do ping -c 2 10.0.0.$n | grep received; done\\r",
        `debian: expect ${PROMPT}`,
        "debian-riscv64: send poweroff\\r",
        "debian: send poweroff\\r",
      ];
      writeFileSync(script, steps.map((step) => `${step}\n`).join(""));
      const options = ["--input", script, "--extra", "loglevel=4"];
      const ran = await hookvisor(["run", "debian", "debian-riscv64", ...options], { timeout: TIMEOUT });
      const [x86, riscv] = ["debian", "debian-riscv64"].map((name) => linesOf(ran, name).join("\n"));
      expect(x86).toMatch(/^x86_64$/m);
      expect(riscv).toMatch(/^riscv64$/m);
      const addresses = [x86, riscv].map((text) => /^ *inet (10\.0\.0\.\d+)\/24/m.exec(text ?? "")?.[1]);
      expect(addresses.toSorted()).toEqual(["10.0.0.2", "10.0.0.3"]);
      for (const text of [x86, riscv])
        expect(text?.match(/2 packets transmitted, 2 packets received, 0% packet loss/g)).toHaveLength(2);
      expect(ran.code).toBe(0);
    },
    TIMEOUT,
  );
});
