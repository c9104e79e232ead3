/**
 * The project's own kernels, run by the command line as a user runs them; what they print is compared with what they printed
 * on real Xen. Each kernel runs in today's form and in that of 2007.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hookvisor, linesOf } from "../tools/hookvisor-run.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-e2e-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const lines = (text: string): string[] => text.split("\n").filter((line) => line !== "");

for (const form of ["", "-2007"]) {
  describe(form === "" ? "today's form" : "the form of 2007", () => {
    it("hello prints through Xen's console and powers off", async () => {
      const ran = await hookvisor(["run", `hello${form}`, "--memory", "16", "--extra", "good morning"]);
      expect(ran.stdout).toContain("Hello, Xen!\n");
      expect(ran.stdout).toContain('hello: xen-3.0-x86_64, 16 MiB, command line "good morning"');
      expect(ran.stdout).toMatch(/hello: running on Xen 4\.\d+/);
      expect(ran.code).toBe(0);
    });

    it("clock sees time pass evenly and never backwards", async () => {
      const ran = await hookvisor(["run", `clock${form}`, "--memory", "16", "--extra", "ticks=5 every=100"]);
      expect(ran.code).toBe(0);
      const times = [...ran.stdout.matchAll(/system time (\d+\.\d+) s$/gm)].map((match) => Number(match[1]));
      expect(times).toHaveLength(5);
      for (let i = 1; i < 5; i++) expect((times[i] ?? 0) - (times[i - 1] ?? 0)).toBeCloseTo(0.1, 2);
      const wall = [...ran.stdout.matchAll(/clock: (\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d\.\d{3}) UTC/g)];
      const stamps = wall.map((match) => Date.parse(`${match[1]}T${match[2]}Z`));
      for (let i = 1; i < 5; i++) expect((stamps[i] ?? 0) - (stamps[i - 1] ?? 0)).toBeLessThan(110);
      expect(ran.stdout).not.toContain("BACKWARDS");
      expect(ran.stdout).toMatch(/clock: 50\d ms for 5 ticks/);
    });

    it("events arrive as on real Xen, and what is typed is echoed", async () => {
      const script = file(
        `events${form}.script`,
        "expect type lines\nsend hello there\\r\nexpect echo: hello there\nsend quit\\r\nexpect done\n",
      );
      const ran = await hookvisor(["run", `events${form}`, "--memory", "16", "--input", script]);
      expect(lines(ran.stdout)).toEqual([
        "events: bind VIRQ_TIMER: 0, port 3",
        "events: bind VIRQ_TIMER again: got -EEXIST",
        "events: the timer woke us after 20 ms",
        "events: close it: got 0",
        "events: close it again: got -EINVAL",
        "events: ports 3 and 4 connected: 0",
        "events: sent one each way: 1 and 1 arrived",
        "events: masked: pending 1, still 1 arrived",
        "events: unmasked: pending 0, 2 arrived",
        "events: status 2 (interdomain), remote port 3",
        "events: bind an IPI to vCPU 0: 0",
        "events: the IPI arrived",
        'events: type lines; "quit" ends',
        "echo: hello there",
        "echo: quit",
        "events: done",
      ]);
      expect(ran.code).toBe(0);
    });

    it("xenstore browses, watches, writes in a transaction, and is refused as on real Xen", async () => {
      const ran = await hookvisor(["run", `xenstore${form}`, "--memory", "16"]);
      const printed = lines(ran.stdout);
      expect(printed[0]).toBe("xenstore: this is /local/domain/1");
      expect(printed).toContain('xenstore:   /local/domain/1/domid = "1"');
      expect(printed).toContain('xenstore:   /local/domain/1/store/port = "1"');
      expect(printed.slice(printed.findIndex((line) => line.includes("read name")))).toEqual([
        `xenstore: read name: xenstore${form}`,
        "xenstore: watch event: data, token our-token",
        "xenstore: write data/greeting: OK",
        "xenstore: watch event: data/greeting, token our-token",
        "xenstore: read data/greeting: hello",
        "xenstore: read outside the transaction: hello",
        "xenstore: end the transaction: OK",
        "xenstore: read after it: changed",
        "xenstore: read what is not there: ENOENT",
        "xenstore: read a path that is none: EINVAL",
        "xenstore: write where we may not: EACCES",
        "xenstore: remove data/greeting: OK",
        "xenstore: unwatch: OK",
        "xenstore: done",
      ]);
      expect(ran.code).toBe(0);
    });

    it("a page is granted, mapped, read and answered between two domains", async () => {
      const [offer, map] = [`grant-offer${form}`, `grant-map${form}`];
      const ran = await hookvisor(["run", offer, map, "--memory", "16"]);
      expect(linesOf(ran, offer)).toEqual([
        "grant-offer: granted a page to domain 2 as reference 8",
        "grant-offer: withdraw while it is mapped: refused",
        'grant-offer: the peer wrote "answer of domain 2"',
        "grant-offer: withdrawn",
      ]);
      expect(linesOf(ran, map)).toEqual([
        "grant-map: map reference 8 of domain 1: status 0",
        'grant-map: the page says "a page of domain 1"',
        "grant-map: map it again, read-only: status 0, the same content: yes",
        "grant-map: write through the read-only mapping: fault",
        "grant-map: unmap it: status 0",
        "grant-map: unmap: status 0",
        "grant-map: unmap again: status -4",
        "grant-map: touch it after that: fault",
      ]);
      expect(ran.code).toBe(0);
    });

    it("blk reads, writes and flushes a disk, and is refused what it may not do", async () => {
      const image = new Uint8Array(64 * 512);
      for (let i = 0; i < image.length; i++) image[i] = (i >> 9) + (i & 255);
      const disk = file(`disk${form}.img`, image);
      const ran = await hookvisor(["run", `blk${form}`, "--memory", "16", "--disk", `${disk},raw,xvda,w`]);
      const printed = lines(ran.stdout);
      let sum = 1;
      for (const byte of image.subarray(0, 4096)) sum = (Math.imul(sum, 31) + byte) >>> 0;
      expect(printed[0]).toMatch(/blk: device\/vbd\/51712: 64 sectors of 512 bytes, info 0/);
      expect(printed.slice(1)).toEqual([
        `blk: read 8 sectors: status 0, checksum ${sum.toString(16).padStart(8, "0")}`,
        "blk: read sector 1 into the page's last place: status 0, the rest of the page is untouched",
        "blk: write 8 sectors: status 0",
        "blk: flush: status 0",
        "blk: read them back: status 0, the same",
        "blk: read beyond the end: status -1",
        "blk: read at sector 2^63: status -1",
        "blk: read into a page that is not granted: status -1",
        "blk: read sectors 7 to 3 of a page: status -1",
        "blk: read to the page's ninth sector: status -1",
        "blk: an operation that is none: status -2",
        "blk: closed, ring withdrawn: yes",
      ]);
      expect(ran.code).toBe(0);
      const readOnly = await hookvisor(["run", `blk${form}`, "--memory", "16", "--disk", `${disk},raw,xvda,r`]);
      expect(readOnly.stdout).toMatch(/info 4/);
      expect(readOnly.stdout).toContain("blk: write 8 sectors: status -1\n");
      expect(readOnly.code).toBe(0);
    });
  });
}

describe("smp", () => {
  for (const pcpus of ["1", "2"]) {
    it(`starts a second vCPU on ${pcpus} pCPU(s), and time never goes backwards between the two`, async () => {
      const ran = await hookvisor(["run", "smp", "--memory", "16", "--vcpus", "2", "--pcpus", pcpus]);
      expect(lines(ran.stdout)).toEqual([
        "smp: vCPU 1 is up before: 0",
        "smp: up before initialise: got -EINVAL",
        "smp: vCPU 1 runs",
        "smp: 8 pings, 8 pongs, time went backwards 0 times",
        "smp: vCPU 1 is down",
      ]);
      expect(ran.code).toBe(0);
    });
  }
});
