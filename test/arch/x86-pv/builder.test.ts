import { ABI_X86_64, type DomainImage, Frames, ImageError, xen } from "hookvisor";
import { describe, expect, it } from "vitest";
import { inspectImage } from "../../../arch/x86-pv/backend.ts";
import { Builder } from "../../../arch/x86-pv/loader/builder.ts";
import { MachineToPhysical } from "../../../arch/x86-pv/m2p.ts";
import { PageTables } from "../../../arch/x86-pv/mm/page-tables.ts";
import { TYPE_L4 } from "../../../arch/x86-pv/mm/pte.ts";
import { makeElf, NOTES, type Note } from "./make-elf.ts";

const START_INFO = xen.start_info.at(ABI_X86_64);
const DOMAIN = 1;

/** Builds an image in `pages` pages; the first frames are someone else's, so that frame and page numbers differ. */
function build(elf: Uint8Array, pages: number, ramdisk: Uint8Array | null = null, commandLine = "") {
  const frames = new Frames(pages + 64);
  const tables = new PageTables(frames, new MachineToPhysical(frames).entry, {
    charge: () => {},
    descriptorsUnmapped: () => {},
  });
  const [shared] = frames.allocate(DOMAIN, 1);
  const p2m = frames.allocate(DOMAIN, pages);
  const image: DomainImage = {
    kernel: elf,
    kernelName: "k",
    ramdisk,
    commandLine,
    memoryFrames: pages,
    vcpus: 1,
    storePort: 1,
    consolePort: 2,
  };
  const { elf: parsed, kernel } = inspectImage(elf, "k");
  const built = new Builder(frames, parsed, kernel, image, p2m).build(shared!);
  const walk = (address: bigint): { readonly mfn: number; readonly flags: number } | null => {
    let table = built.root;
    let flags = 0;
    for (let level = 4n; level >= 1n; level--) {
      const index = Number((address >> (12n + 9n * (level - 1n))) & 511n);
      const lo = tables.entryLo(table, index);
      if ((lo & 1) === 0) return null;
      flags = lo & 0xfff;
      table = lo >>> 12;
    }
    return { mfn: table, flags };
  };
  const info = START_INFO.read(frames.view, walk(built.startInfo)!.mfn * 4096);
  const wide = (value: { readonly lo: number; readonly hi: number }): bigint =>
    (BigInt(value.hi) << 32n) | BigInt(value.lo);
  return { frames, tables, built, walk, info, wide, p2m, shared: shared! };
}

const HIGH = 0xffffffff80000000n;
const text = (page: number): Uint8Array => new Uint8Array(4096).fill(page);

describe("a domain's first address space", () => {
  const small = makeElf({ loads: [{ physical: 0x1000n, bytes: text(7), memorySize: 0x3000n }], entry: 0x1000n });

  it("has Xen's order of pages, and ends on 4 MB with 512 kB to spare", () => {
    const { built, walk, info, wide, p2m, frames, shared } = build(small, 4096);
    const at = (address: bigint): number => p2m.indexOf(walk(address)!.mfn);
    // 4 pages up to the kernel's end, 8 pages of p2m, start_info, XenStore, console, tables, stack
    expect(wide(info.mfn_list)).toBe(0x4000n);
    expect(built.startInfo).toBe(0xc000n);
    expect(at(0xd000n)).toBe(p2m.indexOf(built.storeMfn));
    expect(at(0xe000n)).toBe(p2m.indexOf(built.consoleMfn));
    expect(wide(info.pt_base)).toBe(0xf000n);
    expect(wide(info.nr_pt_frames)).toBe(5n);
    expect(built.stack).toBe(0x15000n);
    expect(at(built.stack - 8n)).toBe(0x14);
    expect(walk(0x3fffffn)?.mfn).toBe(p2m[1023]);
    expect(walk(0x400000n)).toBeNull();
    expect(built.entry).toBe(0x1000n);
    expect(wide(info.nr_pages)).toBe(4096n);
    expect(wide(info.shared_info)).toBe(BigInt(shared) * 4096n);
    expect([info.store_evtchn, info.console.domU.evtchn]).toEqual([1, 2]);
    expect(wide(info.console.domU.mfn)).toBe(BigInt(built.consoleMfn));
    expect(frames.bytes[walk(0x1000n)!.mfn * 4096]).toBe(7);
    expect(frames.bytes[walk(0x2000n)!.mfn * 4096]).toBe(0);
  });

  it("lists each page's frame, and maps its own tables read-only, so that validation accepts them", () => {
    const { built, walk, p2m, frames, tables } = build(small, 4096);
    for (const pfn of [0, 1, 511, 512, 4095]) {
      const address = 0x4000n + BigInt(pfn) * 8n;
      expect(frames.view.getUint32(walk(address)!.mfn * 4096 + (pfn & 511) * 8, true)).toBe(p2m[pfn]);
    }
    expect(walk(0xf000n)!.flags).toBe(0x21);
    expect(walk(0xe000n)!.flags).toBe(0x23);
    expect(tables.pin(built.root, TYPE_L4, DOMAIN)).toBe(0);
    expect(walk(0xf000n)!.flags).toBe(0x25);
  });

  it("maps the ramdisk behind the kernel", () => {
    const ramdisk = new Uint8Array(5000).fill(9);
    const { walk, info, wide, frames } = build(small, 4096, ramdisk, "console=hvc0");
    expect([wide(info.mod_start), wide(info.mod_len), info.flags & xen.SIF.MOD_START_PFN]).toEqual([0x4000n, 5000n, 0]);
    expect(frames.bytes[walk(0x5000n)!.mfn * 4096 + 903]).toBe(9);
    expect(String.fromCharCode(...info.cmd_line.slice(0, 12))).toBe("console=hvc0");
  });

  it("as Linux has it: ramdisk unmapped by its page number, p2m list at an address of its own", () => {
    const notes: Note[] = [...NOTES, [3, HIGH], [15, 0x8000000000n], [16, 1n], [2, HIGH + 0x1000n]];
    const elf = makeElf({ notes, entry: HIGH, loads: [{ physical: 0n, bytes: new Uint8Array(0x2000) }] });
    const { walk, info, wide, p2m, frames, tables, built } = build(elf, 4096, new Uint8Array(4097).fill(5));
    expect(info.flags).toBe(xen.SIF.MOD_START_PFN | xen.SIF.VIRT_P2M_4TOOLS);
    const first = Number(wide(info.mod_start));
    expect(first).toBe(1024);
    expect(frames.bytes[p2m[first + 1]! * 4096]).toBe(5);
    expect(wide(info.mfn_list)).toBe(0x8000000000n);
    expect(wide(info.first_p2m_pfn)).toBe(1026n);
    // 8 pages of list; an L3, an L2 and an L1 table
    expect(wide(info.nr_p2m_frames)).toBe(11n);
    expect(frames.view.getUint32(walk(0x8000000000n + 8n * 4095n)!.mfn * 4096 + 511 * 8, true)).toBe(p2m[4095]);
    expect(tables.pin(built.root, TYPE_L4, DOMAIN)).toBe(0);
    // push rcx; push r11; mov $1, eax; syscall
    const page = walk(HIGH + 0x1000n)!.mfn * 4096;
    expect([...frames.bytes.subarray(page + 32, page + 46)]).toEqual([
      0x51, 0x41, 0x53, 0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3,
    ]);
  });

  it.each([
    [
      "the kernel",
      makeElf({ loads: [{ physical: 0n, bytes: text(1), memorySize: 1n << 40n }] }),
      null,
      /needs 1048576 MiB for itself and the domain has 4 MiB/,
    ],
    [
      "its tables",
      makeElf({ loads: [{ physical: 0n, bytes: text(1), memorySize: 0x3f0000n }] }),
      null,
      /does not fit: with .* it needs/,
    ],
    ["the ramdisk", small, new Uint8Array(8 << 20), /The ramdisk for kernel k has 8 MiB and the domain has 4 MiB left/],
  ] as const)("says what does not fit: %s", (_, elf, ramdisk, expected) => {
    const attempt = () => build(elf, 1024, ramdisk);
    expect(attempt).toThrow(ImageError);
    expect(attempt).toThrow(expected);
  });
});
