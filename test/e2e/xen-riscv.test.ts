/** Xen's own interface on RISC-V, used by a kernel of the project's own: hypercalls by ecall, upcalls, console, events, a timer, XenStore, grants. */
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hookvisor, linesOf, PROJECT } from "../tools/hookvisor-run.ts";

const IMAGE = join(PROJECT, "test", "guests", "riscv64", "images", "xen.elf");

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "hookvisor-xen-riscv-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("a RISC-V guest of Xen", () => {
  it("has a console, events, a timer and XenStore", async () => {
    const ran = await hookvisor(["run", "--kernel", IMAGE, "--memory", "16", "--extra", "good morning"]);
    expect(ran.stdout.split("\n")).toEqual([
      "xen: 4.17, xen-3.0-riscv64 , features 8197, hart 0",
      'xen: command line "good morning"',
      "xen: number 63 answers -38",
      "console: this came through the ring",
      "events: 3 of 3 arrived",
      "events: 3 while masked, 4 after it",
      expect.stringMatching(/^events: the timer after 50\d\d us$/),
      "xenstore: this is domain 1",
      'xenstore: data/greeting = "hello from RISC-V"',
      "xenstore: the watch says data/greeting",
      "xen: done, with upcalls",
      "",
    ]);
    expect(ran.stderr).toBe("");
    expect(ran.code).toBe(0);
  });

  it("grants a page, which another one maps, reads, writes and lets go; equal runs are equal", async () => {
    for (const name of ["offer", "map"]) copyFileSync(IMAGE, join(folder, `${name}.elf`));
    const domains = ["offer:extra=role=offer peer=2", "map:extra=role=map peer=1"];
    const run = () => hookvisor(["run", "offer.elf", "map.elf", "--memory", "16", ...domains], { cwd: folder });
    const ran = await run();
    expect(linesOf(ran, "map").slice(-4)).toEqual([
      "xenstore: the watch says data/greeting",
      'grants: mapped, it says "a page of domain 1"',
      "grants: unmapped, and once more: -4",
      "xen: done, with upcalls",
    ]);
    expect(linesOf(ran, "offer").slice(-3)).toEqual([
      'grants: offered, the peer wrote "domain 2 was here", flags 1',
      "grants: taken back",
      "xen: done, with upcalls",
    ]);
    expect(ran.code).toBe(0);
    const again = await run();
    for (const name of ["offer", "map"]) expect(linesOf(again, name)).toEqual(linesOf(ran, name));
  });
});
