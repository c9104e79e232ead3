/**
 * What a kernel says about itself: Xen's ELF notes, or the `__xen_guest` section of 2007 (legacy.ts).
 *
 * Notes are looked for in note segments, then in note sections, then the legacy section is read; as Xen's libelf does. Meaning of each note:
 * public/elfnote.h.
 *
 * Invariants: a hostile note table is bounded by its segment; unknown notes are ignored; every refusal is an ImageError.
 */
import { ImageError, xen } from "hookvisor";
import { type ElfImage, PT_LOAD, PT_NOTE, SHT_NOTE, text } from "./elf.ts";
import { parseGuestSection } from "./legacy.ts";

const { XENFEAT, XEN_ELFNOTE } = xen;

/** What the notes (or the legacy section) say; null: not said. */
export interface RawParameters {
  source: "notes" | "legacy";
  guestOs: string;
  xenVersion: string;
  loader: string;
  paeMode: string;
  features: string;
  virtualBase: bigint | null;
  entry: bigint | null;
  hypercallPage: bigint | null;
  physicalOffset: bigint | null;
  initialP2m: bigint | null;
  /** MOD_START_PFN: the ramdisk may stay unmapped. */
  unmappedRamdisk: boolean;
  physicalEntry: boolean;
}

/** The checked parameters that the builder works with. */
export interface KernelParameters {
  readonly source: "notes" | "legacy";
  readonly guestOs: string;
  readonly virtualBase: bigint;
  readonly entry: bigint;
  readonly hypercallPage: bigint | null;
  readonly initialP2m: bigint | null;
  readonly unmappedRamdisk: boolean;
  /** The kernel's virtual range. */
  readonly start: bigint;
  readonly end: bigint;
  /** Added to a segment's physical address: its virtual one. */
  readonly virtualOffset: bigint;
}

/** Names of XENFEAT_*, as FEATURES spells them. */
const FEATURES = new Set<string>(Object.keys(XENFEAT));

/** Features whose requirement a PV domain here meets. `!writable_page_tables` is what Linux writes for "emulated writes will do". */
const MET = new Set(["writable_page_tables", "pae_pgdir_above_4gb"]);

/** Addresses of the hypervisor's own range (public/arch-x86/xen-x86_64.h). */
const HYPERVISOR_START = 0xffff800000000000n;
const HYPERVISOR_END = 0xffff880000000000n;
const WRAP = 1n << 64n;

/** An empty set of parameters. */
export function noParameters(source: "notes" | "legacy"): RawParameters {
  return {
    source,
    guestOs: "",
    xenVersion: "",
    loader: "",
    paeMode: "",
    features: "",
    virtualBase: null,
    entry: null,
    hypercallPage: null,
    physicalOffset: null,
    initialP2m: null,
    unmappedRamdisk: false,
    physicalEntry: false,
  };
}

/** Reads the notes in file bytes [from, from + size); says how many were Xen's. */
function readNotes(elf: ElfImage, from: number, size: number, into: RawParameters): number {
  const { bytes, view } = elf;
  const end = Math.min(from + size, bytes.length);
  let found = 0;
  for (let at = from; at + 12 <= end; ) {
    const nameSize = view.getUint32(at, true);
    const valueSize = view.getUint32(at + 4, true);
    const type = view.getUint32(at + 8, true);
    const name = at + 12;
    const value = name + ((nameSize + 3) & ~3);
    if (nameSize > end - name || valueSize > end - value || value > end) break;
    if (text(bytes, name, name + nameSize) === "Xen") {
      found++;
      readNote(elf, type, value, valueSize, into);
    }
    at = value + ((valueSize + 3) & ~3);
  }
  return found;
}

function readNote(elf: ElfImage, type: number, at: number, size: number, into: RawParameters): void {
  const numeric = (): bigint => {
    let value = 0n;
    for (let i = Math.min(size, 8) - 1; i >= 0; i--) value = value * 256n + BigInt(elf.bytes[at + i]!);
    return value;
  };
  const string = (): string => text(elf.bytes, at, at + size);
  switch (type) {
    case XEN_ELFNOTE.ENTRY:
      into.entry = numeric();
      break;
    case XEN_ELFNOTE.HYPERCALL_PAGE:
      into.hypercallPage = numeric();
      break;
    case XEN_ELFNOTE.VIRT_BASE:
      into.virtualBase = numeric();
      break;
    case XEN_ELFNOTE.PADDR_OFFSET:
      into.physicalOffset = numeric();
      break;
    case XEN_ELFNOTE.XEN_VERSION:
      into.xenVersion = string();
      break;
    case XEN_ELFNOTE.GUEST_OS:
      into.guestOs = string();
      break;
    case XEN_ELFNOTE.LOADER:
      into.loader = string();
      break;
    case XEN_ELFNOTE.PAE_MODE:
      into.paeMode = string();
      break;
    case XEN_ELFNOTE.FEATURES:
      into.features = string();
      break;
    case XEN_ELFNOTE.INIT_P2M:
      into.initialP2m = numeric();
      break;
    case XEN_ELFNOTE.MOD_START_PFN:
      into.unmappedRamdisk = numeric() !== 0n;
      break;
    case XEN_ELFNOTE.PHYS32_ENTRY:
      into.physicalEntry = true;
      break;
    default:
  }
}

/** Finds what the image says; null: it says nothing to Xen. */
function findParameters(elf: ElfImage): RawParameters | null {
  const notes = noParameters("notes");
  let found = 0;
  for (const segment of elf.segments)
    if (segment.type === PT_NOTE && segment.offset !== 0)
      found += readNotes(elf, segment.offset, segment.fileSize, notes);
  if (found === 0)
    for (const section of elf.sections)
      if (section.type === SHT_NOTE) found += readNotes(elf, section.offset, section.size, notes);
  if (found > 0) return notes;
  const legacy = elf.sections.find((section) => section.name === "__xen_guest");
  return legacy === undefined ? null : parseGuestSection(text(elf.bytes, legacy.offset, legacy.offset + legacy.size));
}

/** The kernel's parameters for a 64-bit PV domain. Throws ImageError. */
export function kernelParameters(elf: ElfImage): KernelParameters {
  const fail = (what: string): never => {
    throw new ImageError(`Kernel ${elf.name} ${what}.`);
  };
  const raw = findParameters(elf);
  if (raw === null)
    return fail("has neither Xen ELF notes nor a __xen_guest section: it was not built to run as a Xen PV domain");
  if (raw.xenVersion === "" && raw.physicalEntry) fail("is a PVH kernel without a PV entry; run it with type pvh");
  if (raw.xenVersion === "") fail("does not say which Xen it is for: it has no XEN_VERSION note");
  if (!raw.xenVersion.startsWith("xen-3.0"))
    fail(`says that it is for Xen version '${raw.xenVersion}'; PV kernels say xen-3.0`);
  checkFeatures(raw.features, fail);
  if (raw.physicalOffset !== null && raw.virtualBase === null && raw.source === "notes")
    fail("has a PADDR_OFFSET note and no VIRT_BASE note; it needs both or neither");

  const loads = elf.segments.filter((segment) => segment.type === PT_LOAD && segment.memorySize > 0n);
  if (loads.length === 0) fail("has no loadable segment");
  const virtualBase = raw.virtualBase ?? 0n;
  const physicalOffset = raw.physicalOffset ?? (raw.source === "notes" ? 0n : virtualBase);
  let low = WRAP;
  let high = 0n;
  for (const { physical, memorySize } of loads) {
    if (physical + memorySize >= WRAP)
      fail(`has a segment at 0x${physical.toString(16)} that wraps around the address space`);
    if (physical < low) low = physical;
    if (physical + memorySize > high) high = physical + memorySize;
  }
  const virtualOffset = virtualBase - physicalOffset;
  const start = low + virtualOffset;
  const end = high + virtualOffset;
  const entry = raw.entry ?? elf.entry;
  if (start < virtualBase || end < start || end >= WRAP)
    fail(
      `is linked outside its virtual base: it starts at 0x${low.toString(16)}, its base is 0x${virtualBase.toString(16)}`,
    );
  if (entry < start || entry > end) fail(`has its entry 0x${entry.toString(16)} outside the kernel`);
  if (!canonical(virtualBase) || !canonical(end) || (virtualBase < HYPERVISOR_END && end > HYPERVISOR_START))
    fail(`wants to be at 0x${virtualBase.toString(16)}, where no PV kernel may be`);
  const hypercallPage = raw.hypercallPage;
  if (
    hypercallPage !== null &&
    ((hypercallPage & 0xfffn) !== 0n || hypercallPage < virtualBase || hypercallPage >= end)
  )
    fail(`has its hypercall page 0x${hypercallPage.toString(16)} outside the kernel or not at a page's start`);
  // As libxc: an initial p2m below or within the first mapping, or not at a page's start, is placed as if none were asked for.
  let initialP2m = raw.initialP2m;
  if (initialP2m !== null && (initialP2m >= virtualBase || (initialP2m & 0xfffn) !== 0n)) initialP2m = null;
  if (
    initialP2m !== null &&
    (!canonical(initialP2m) || (initialP2m < HYPERVISOR_END && initialP2m + (1n << 40n) > HYPERVISOR_START))
  )
    fail(`wants its p2m list at 0x${initialP2m.toString(16)}, where no PV kernel may map anything`);
  return {
    source: raw.source,
    guestOs: raw.guestOs,
    virtualBase,
    entry,
    hypercallPage,
    initialP2m,
    unmappedRamdisk: raw.unmappedRamdisk,
    start,
    end,
    virtualOffset,
  };
}

function canonical(address: bigint): boolean {
  return address < 0x800000000000n || (address >= 0xffff800000000000n && address < WRAP);
}

/** FEATURES is `a|b|!c`; an exclamation mark requires. */
function checkFeatures(features: string, fail: (what: string) => never): void {
  for (const word of features.split("|")) {
    if (!word.startsWith("!")) continue;
    const name = word.slice(1);
    if (!FEATURES.has(name)) fail(`requires the feature '${name}', which Xen does not know`);
    if (!MET.has(name)) fail(`requires the feature '${name}', which a PV domain here does not have`);
  }
}
