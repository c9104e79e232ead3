/** Flattened device trees: what is written is read back, by this project's reader and by Debian's dtc. */
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { makeDeviceTree } from "../../../arch/riscv64/device-tree.ts";
import {
  type FdtNode,
  type FdtParsed,
  type FdtValue,
  fdtBytes,
  node,
  readFdt,
  writeFdt,
} from "../../../arch/riscv64/fdt.ts";
import { guestFile } from "../../tools/guest-file.ts";

/** dtc and its libraries, by the names that they must have. */
const LIBRARIES = "usr/lib/x86_64-linux-gnu";
const DTC = {
  dtc: { suite: "bookworm", package: "device-tree-compiler", file: "usr/bin/dtc" },
  "libfdt.so.1": { suite: "bookworm", package: "libfdt1", file: `${LIBRARIES}/libfdt-1.6.1.so` },
  "libyaml-0.so.2": { suite: "bookworm", package: "libyaml-0-2", file: `${LIBRARIES}/libyaml-0.so.2.0.9` },
} as const;

const NAME = /^[a-z0-9,._+-]{1,12}$/;
const value: fc.Arbitrary<FdtValue> = fc.oneof(
  fc.constant(true as const),
  fc.stringMatching(/^[ -~]{0,20}$/),
  fc.array(fc.stringMatching(/^[ -~]{0,9}$/), { minLength: 1, maxLength: 4 }),
  fc.array(fc.integer({ min: 0, max: 0xffffffff }), { maxLength: 5 }),
  fc.uint8Array({ maxLength: 9 }),
);
const trees = (depth: number): fc.Arbitrary<FdtNode> =>
  fc
    .record({
      name: fc.stringMatching(NAME),
      properties: fc.dictionary(fc.stringMatching(NAME), value, { maxKeys: 5 }),
      children: depth === 0 ? fc.constant([]) : fc.array(trees(depth - 1), { maxLength: 3 }),
    })
    .map(({ name, properties, children }) => node(name, properties, children));

/** What a reader is to find. */
function parsed({ name, properties, children }: FdtNode): FdtParsed {
  return {
    name,
    properties: new Map([...properties].map(([key, one]) => [key, fdtBytes(one)])),
    children: children.map(parsed),
  };
}

const facts = (harts: number): Uint8Array =>
  makeDeviceTree({
    harts,
    memory: 0x1000_0000,
    commandLine: "console=ttyS0",
    ramdisk: { start: 0x8220_0000, end: 0x8230_0001 },
    devices: [
      {
        type: "plic",
        id: 0,
        regions: [{ space: "mmio", base: 0xc00_0000, size: 0x400_0000 }],
        description: {
          compatible: ["sifive,plic-1.0.0", "riscv,plic0"],
          interrupts: [],
          properties: { "interrupt-controller": true, "#interrupt-cells": [1], "#address-cells": [0] },
        },
      },
      {
        type: "uart16550",
        id: 0,
        regions: [{ space: "mmio", base: 0x1000_0000, size: 0x100 }],
        description: { compatible: ["ns16550a"], interrupts: [10] },
      },
      { type: "silent", id: 0, regions: [{ space: "mmio", base: 0x2000_0000, size: 8 }], description: null },
    ],
    seed: new Uint8Array(32).fill(7),
    xenVersion: { major: 4, minor: 17 },
  });

const find = (root: FdtParsed, path: string): FdtParsed =>
  path.split("/").reduce((at, name) => at.children.find((child) => child.name === name)!, root);
const cells = (bytes: Uint8Array | undefined): number[] =>
  Array.from({ length: (bytes?.length ?? 0) / 4 }, (_, i) =>
    new DataView(bytes!.buffer, bytes!.byteOffset).getUint32(4 * i),
  );
const text = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString("latin1");

describe("flattened device trees", () => {
  it("are read as they were written", () => {
    fc.assert(
      fc.property(
        trees(3),
        fc.array(fc.record({ address: fc.nat(), size: fc.nat() }), { maxLength: 3 }),
        (root, taken) => {
          const blob = writeFdt(root, taken);
          expect(blob.length % 8).toBe(0);
          expect(readFdt(blob)).toEqual(parsed(root));
        },
      ),
      { numRuns: 200 },
    );
  });

  it("hold a text of any length", () => {
    const long = "x".repeat(1 << 20);
    const read = readFdt(writeFdt(node("", { bootargs: long, list: [long, "y"] })));
    expect(read?.properties.get("bootargs")?.length).toBe(long.length + 1);
    expect(read?.properties.get("list")?.length).toBe(long.length + 3);
    // A node's name, too: whoever reads one may be given anything.
    expect(readFdt(writeFdt(node("", {}, [node(long, {})])))?.children[0]?.name).toBe(long);
  });

  it("that are damaged are none, and nothing throws", () => {
    const blob = facts(2);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(blob.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
        fc.nat(blob.length),
        (changes, length) => {
          const bad = blob.slice();
          for (const [at, byte] of changes) bad[at] = byte;
          readFdt(bad);
          readFdt(bad.subarray(0, length));
        },
      ),
      { numRuns: 500 },
    );
    expect(readFdt(new Uint8Array(0))).toBeNull();
    expect(readFdt(blob.subarray(0, blob.length - 8))).toBeNull();
  });

  it("of a domain name its harts, memory, devices and Xen", () => {
    const root = readFdt(facts(2))!;
    expect(cells(find(root, "memory@80000000").properties.get("reg"))).toEqual([0, 0x8000_0000, 0, 0x1000_0000]);
    const chosen = find(root, "chosen").properties;
    expect(text(chosen.get("bootargs"))).toBe("console=ttyS0\0");
    expect(text(chosen.get("stdout-path"))).toBe("/soc/uart16550@10000000\0");
    expect(cells(chosen.get("linux,initrd-end"))).toEqual([0, 0x8230_0001]);
    const handles = [0, 1].map((hart) => {
      const cpu = find(root, `cpus/cpu@${hart}`);
      expect(cells(cpu.properties.get("reg"))).toEqual([hart]);
      return cells(find(cpu, "interrupt-controller").properties.get("phandle"))[0];
    });
    const plic = find(root, "soc/plic@c000000").properties;
    expect(cells(plic.get("interrupts-extended"))).toEqual([handles[0], 9, handles[1], 9]);
    const uart = find(root, "soc/uart16550@10000000").properties;
    expect(cells(uart.get("interrupt-parent"))).toEqual(cells(plic.get("phandle")));
    expect(cells(uart.get("interrupts"))).toEqual([10]);
    expect(find(root, "soc").children).toHaveLength(2);
    const xen = find(root, "hypervisor").properties;
    expect(text(xen.get("compatible"))).toBe("xen,xen-4.17\0xen,xen\0");
    expect(cells(xen.get("interrupts-extended"))).toEqual([handles[0], 16, handles[1], 16]);
  });

  it("are what Debian's dtc takes without an error", { timeout: 120_000 }, async (context) => {
    const folder = mkdtempSync(join(tmpdir(), "hookvisor-dtc-"));
    try {
      for (const [name, request] of Object.entries(DTC)) {
        copyFileSync(await guestFile(context, request), join(folder, name));
        chmodSync(join(folder, name), 0o755);
      }
      const env = { ...process.env, LD_LIBRARY_PATH: folder };
      const dtc =
        (...args: string[]) =>
        (input: Uint8Array) =>
          spawnSync(join(folder, "dtc"), args, { input, env });
      if (dtc("--version")(new Uint8Array()).status !== 0)
        context.skip("Debian's dtc for amd64 does not run on this host");
      const ran = dtc("-I", "dtb", "-O", "dts")(facts(4));
      expect(ran.status).toBe(0);
      const back = dtc("-I", "dts", "-O", "dtb")(ran.stdout);
      expect(readFdt(Uint8Array.from(back.stdout))).toEqual(readFdt(facts(4)));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
