/**
 * The same command twice: an unmodified Debian with its disk and network at work, and the traces compared byte by byte.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { hookvisor } from "../tools/hookvisor-run.ts";

const WORK = [
  "dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null; dd if=/tmp/data of=/dev/xvda bs=64k conv=fsync 2>/dev/null",
  "ping -c 2 10.0.0.1; sha256sum /dev/xvda /tmp/data",
  "poweroff",
];

/** Runs Debian twice and compares what happened and what it left behind. */
export async function expectSameRun(options: readonly string[], timeout: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "hookvisor-same-"));
  try {
    const script = join(folder, "script");
    writeFileSync(script, WORK.map((line) => `expect root@\nsend ${line}\\r\n`).join(""));
    const run = async () => {
      writeFileSync(join(folder, "disk.img"), new Uint8Array(1 << 20));
      const args = ["run", "debian", "--disk", "disk.img,raw,xvda,w", "--input", "script"];
      const ran = await hookvisor([...args, ...options, "--trace", "trace", "--pcap", "pcap"], {
        cwd: folder,
        timeout,
      });
      expect(ran.stderr).toBe("");
      expect(ran.stdout).toContain("2 packets received");
      expect(ran.code).toBe(0);
      const digest = (name: string): string =>
        createHash("sha256")
          .update(readFileSync(join(folder, name)))
          .digest("hex");
      return { trace: digest("trace"), pcap: digest("pcap"), disk: digest("disk.img"), printed: ran.stdout };
    };
    const first = await run();
    expect(await run()).toEqual(first);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
