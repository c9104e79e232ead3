/**
 * Builds a 64-bit PV domain's first address space as Xen's toolstack does (libxc, xc_dom_x86; public/xen.h, "startofday").
 *
 * Order of pages from the virtual base: kernel, ramdisk, p2m list, start_info, XenStore page, console page, page tables (L4 first), boot
 * stack; the mapping ends on 4 MB with at least 512 kB to spare. A ramdisk follows unmapped if the kernel allows it; with INIT_P2M
 * the p2m list and its page tables come last, mapped there. Addresses are bigint here: this runs once a domain.
 *
 * Invariants: every page used lies below the domain's memory, else an ImageError says what does not fit; page tables are mapped read-only and
 * are left to validation (PageTables) like any guest's.
 */
import { ABI_X86_64, type DomainImage, type Frames, ImageError, type Mfn, xen } from "hookvisor";
import { writeHypercallPage } from "../hypercall-page.ts";
import { PTE_A, PTE_D, PTE_P, PTE_RW, PTE_U, pteLo } from "../mm/pte.ts";
import { type ElfImage, PT_LOAD } from "./elf.ts";
import type { KernelParameters } from "./notes.ts";

const PAGE = 4096n;
const PAGE_BYTES = 4096;
/** Spare room behind the last page, in pages: 512 kB. */
const SPARE_PAGES = 128;
/** The mapping ends on a multiple of this: 4 MB. */
const MAPPING = 1n << 22n;

/** Ends of the two halves of the address space. */
const LOW_END = 1n << 47n;
const TOP = 1n << 64n;

const L1_FLAGS = PTE_P | PTE_RW | PTE_A;
const UPPER_FLAGS = PTE_P | PTE_RW | PTE_A | PTE_D | PTE_U;

const START_INFO = xen.start_info.at(ABI_X86_64);
const MAGIC = "xen-3.0-x86_64";

/** What the builder made: where vCPU 0 starts, and the frames of the rings. */
export interface Built {
  readonly root: Mfn;
  readonly entry: bigint;
  readonly stack: bigint;
  readonly startInfo: bigint;
  readonly storeMfn: Mfn;
  readonly consoleMfn: Mfn;
}

interface Range {
  readonly first: number;
  readonly pages: number;
}

function pagesOf(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES);
}

/** Page-table pages for [from, to) by level 1 to 4; `shared`: tables of this level above exist already (from the first mapping). */
function tablesFor(from: bigint, to: bigint, level: number): number {
  const shift = BigInt(12 + 9 * level);
  return Number(((to - 1n) >> shift) - (from >> shift) + 1n);
}

export class Builder {
  readonly #frames: Frames;
  readonly #elf: ElfImage;
  readonly #kernel: KernelParameters;
  readonly #image: DomainImage;
  /** Frame of each page of the domain. */
  readonly #p2m: readonly Mfn[];
  readonly #words: Uint32Array;
  /** Next page to hand out. */
  #next = 0;
  /** Page-table pages not used yet. */
  #tables: number[] = [];
  readonly #tablePages = new Set<number>();

  constructor(frames: Frames, elf: ElfImage, kernel: KernelParameters, image: DomainImage, p2m: readonly Mfn[]) {
    this.#frames = frames;
    this.#elf = elf;
    this.#kernel = kernel;
    this.#image = image;
    this.#p2m = p2m;
    this.#words = new Uint32Array(frames.memory.buffer);
  }

  /** Builds everything; `sharedInfo` is the frame of the shared info page. Throws ImageError. */
  build(sharedInfo: Mfn): Built {
    const { virtualBase, start, end, initialP2m, unmappedRamdisk, hypercallPage } = this.#kernel;
    const { ramdisk } = this.#image;
    const base = virtualBase & ~(MAPPING - 1n);
    const total = this.#p2m.length;
    if ((end - base + PAGE - 1n) / PAGE > BigInt(total))
      this.#fail(
        `needs ${this.#mib(Number((end - base) / PAGE))} MiB for itself and the domain has ${this.#mib(total)} MiB; give it more memory`,
      );
    this.#take(Number((start - base) / PAGE), "the gap below the kernel");
    this.#take(Number(((end + PAGE - 1n) & ~(PAGE - 1n)) / PAGE - start / PAGE), "the kernel");
    const address = (pfn: number): bigint => base + BigInt(pfn) * PAGE;
    const mapRamdisk = ramdisk !== null && !unmappedRamdisk;
    let ramdiskRange: Range = { first: 0, pages: 0 };
    if (mapRamdisk) ramdiskRange = this.#takeRamdisk(ramdisk.length);
    const p2mBytes = total * 8;
    let p2mRange: Range = { first: 0, pages: 0 };
    if (initialP2m === null) p2mRange = this.#take(pagesOf(p2mBytes), "the p2m list");
    const startInfo = this.#take(1, "start_info").first;
    const store = this.#take(1, "the XenStore page").first;
    const console = this.#take(1, "the console page").first;

    // The page tables map themselves, the stack and 512 kB more: grow until they fit.
    const used = this.#next;
    const count = (to: bigint): number => 1 + [3, 2, 1].reduce((sum, level) => sum + tablesFor(base, to, level), 0);
    let mappingEnd = base;
    for (let pages = SPARE_PAGES + 1; ; ) {
      mappingEnd = (address(used) + BigInt(pages) * PAGE - 1n + MAPPING) & ~(MAPPING - 1n);
      pages = count(mappingEnd) + SPARE_PAGES + 1;
      if (address(used) + BigInt(pages) * PAGE <= mappingEnd) break;
    }
    this.#reach(base, mappingEnd, "itself and its first mapping");
    const tableCount = count(mappingEnd);
    const tables = this.#take(tableCount, "the page tables");
    this.#useTables(tables);
    const stack = this.#take(1, "the boot stack").first;
    const mapped = Number((mappingEnd - base) / PAGE);
    this.#take(mapped - this.#next, "the first mapping, which ends on 4 MB");

    if (ramdisk !== null && !mapRamdisk) ramdiskRange = this.#takeRamdisk(ramdisk.length);
    let p2mTables: Range = { first: 0, pages: 0 };
    let p2mEnd = 0n;
    if (initialP2m !== null) {
      p2mRange = this.#take(pagesOf(p2mBytes), "the p2m list");
      p2mEnd = initialP2m + BigInt(p2mRange.pages) * PAGE;
      this.#reach(initialP2m, p2mEnd, "its p2m list");
      if (p2mEnd > base)
        this.#fail(`wants its p2m list at 0x${initialP2m.toString(16)}, where it runs into the kernel's own mapping`);
      p2mTables = this.#take(this.#tablesBeside(base, mappingEnd, initialP2m, p2mEnd), "the p2m list's page tables");
      this.#useTables(p2mTables);
    }

    this.#loadKernel(base);
    if (ramdisk !== null) this.#write(ramdiskRange.first, 0, ramdisk);
    this.#writeP2m(p2mRange.first);
    if (hypercallPage !== null) writeHypercallPage(this.#frames.page(this.#mfn(Number((hypercallPage - base) / PAGE))));
    const root = this.#mfn(tables.first);
    this.#tables = range(tables);
    this.#tables.shift();
    this.#link(root, base, mappingEnd);
    for (let pfn = 0; pfn < mapped; pfn++) this.#map(root, address(pfn), pfn);
    if (initialP2m !== null) {
      this.#tables = range(p2mTables);
      this.#link(root, initialP2m, p2mEnd);
      for (let i = 0; i < p2mRange.pages; i++) this.#map(root, initialP2m + BigInt(i) * PAGE, p2mRange.first + i);
    }
    this.#writeStartInfo(this.#mfn(startInfo), {
      sharedInfo,
      store: this.#mfn(store),
      console: this.#mfn(console),
      tableBase: address(tables.first),
      tables: tables.pages,
      p2mAddress: initialP2m ?? address(p2mRange.first),
      ramdisk: ramdiskRange,
      ramdiskStart: mapRamdisk ? address(ramdiskRange.first) : BigInt(ramdiskRange.first),
      ramdiskPfn: ramdisk !== null && !mapRamdisk,
      p2mFirst: initialP2m === null ? 0 : p2mRange.first,
      p2mPages: initialP2m === null ? 0 : p2mRange.pages + p2mTables.pages,
    });
    return {
      root,
      entry: this.#kernel.entry,
      stack: address(stack) + PAGE,
      startInfo: address(startInfo),
      storeMfn: this.#mfn(store),
      consoleMfn: this.#mfn(console),
    };
  }

  #fail(what: string): never {
    throw new ImageError(`Kernel ${this.#elf.name} ${what}.`);
  }

  /** A mapping may not run into the middle or past the end of the address space. */
  #reach(from: bigint, to: bigint, what: string): void {
    const limit = from < LOW_END ? LOW_END : TOP;
    if (to > limit)
      this.#fail(
        `wants ${what} at 0x${from.toString(16)}, where there is not enough room below 0x${limit.toString(16)}`,
      );
  }

  #mib(pages: number): number {
    return Math.ceil(pages / 256);
  }

  #mfn(pfn: number): Mfn {
    return this.#p2m[pfn]!;
  }

  #take(pages: number, what: string): Range {
    const first = this.#next;
    if (first + pages > this.#p2m.length)
      this.#fail(
        `does not fit: with ${what} it needs ${this.#mib(first + pages)} MiB and the domain has ${this.#mib(this.#p2m.length)} MiB; give it more memory`,
      );
    this.#next += pages;
    return { first, pages };
  }

  #takeRamdisk(bytes: number): Range {
    const pages = pagesOf(bytes);
    const first = this.#next;
    if (first + pages > this.#p2m.length)
      throw new ImageError(
        `The ramdisk for kernel ${this.#elf.name} has ${this.#mib(pages)} MiB and the domain has ${this.#mib(Math.max(0, this.#p2m.length - first))} MiB left behind the kernel; give it more memory.`,
      );
    this.#next += pages;
    return { first, pages };
  }

  #useTables(tables: Range): void {
    for (const pfn of range(tables)) this.#tablePages.add(pfn);
  }

  /** Tables that a second mapping needs beside those of the first. */
  #tablesBeside(base: bigint, end: bigint, from: bigint, to: bigint): number {
    let count = 0;
    for (let level = 3; level >= 1; level--) {
      const shift = BigInt(12 + 9 * level);
      for (let slot = from >> shift; slot <= (to - 1n) >> shift; slot++)
        if (slot < base >> shift || slot > (end - 1n) >> shift) count++;
    }
    return count;
  }

  /** Makes the tables of [from, to) under the root, level by level, from the pages at hand. */
  #link(root: Mfn, from: bigint, to: bigint): void {
    for (let level = 4; level >= 2; level--) {
      const shift = BigInt(12 + 9 * (level - 1));
      for (let slot = from >> shift; slot <= (to - 1n) >> shift; slot++) {
        const at = this.#entryAt(root, slot << shift, level);
        if ((this.#words[at]! & PTE_P) === 0) this.#words[at] = pteLo(this.#mfn(this.#tables.shift()!), UPPER_FLAGS);
      }
    }
  }

  /** Word index of the entry of `level` for an address; the tables above exist. */
  #entryAt(root: Mfn, address: bigint, level: number): number {
    let table = root;
    for (let above = 4; ; above--) {
      const at = table * 1024 + Number((address >> BigInt(12 + 9 * (above - 1))) & 511n) * 2;
      if (above === level) return at;
      table = this.#words[at]! >>> 12;
    }
  }

  #map(root: Mfn, address: bigint, pfn: number): void {
    const flags = this.#tablePages.has(pfn) ? L1_FLAGS & ~PTE_RW : L1_FLAGS;
    this.#words[this.#entryAt(root, address, 1)] = pteLo(this.#mfn(pfn), flags);
  }

  /** Copies bytes to pages from `pfn` on, `offset` bytes into the first. */
  #write(pfn: number, offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const at = (offset + done) % PAGE_BYTES;
      const part = Math.min(bytes.length - done, PAGE_BYTES - at);
      const mfn = this.#mfn(pfn + Math.floor((offset + done) / PAGE_BYTES));
      this.#frames.bytes.set(bytes.subarray(done, done + part), mfn * PAGE_BYTES + at);
      done += part;
    }
  }

  #loadKernel(base: bigint): void {
    const { virtualOffset } = this.#kernel;
    for (const segment of this.#elf.segments) {
      if (segment.type !== PT_LOAD || segment.fileSize === 0) continue;
      const at = Number(segment.physical + virtualOffset - base);
      this.#write(0, at, this.#elf.bytes.subarray(segment.offset, segment.offset + segment.fileSize));
    }
  }

  #writeP2m(pfn: number): void {
    for (let i = 0; i < this.#p2m.length; i++) {
      const word = this.#mfn(pfn + (i >> 9)) * 1024 + (i & 511) * 2;
      this.#words[word] = this.#p2m[i]!;
    }
  }

  #writeStartInfo(
    mfn: Mfn,
    at: {
      readonly sharedInfo: Mfn;
      readonly store: Mfn;
      readonly console: Mfn;
      readonly tableBase: bigint;
      readonly tables: number;
      readonly p2mAddress: bigint;
      readonly ramdisk: Range;
      readonly ramdiskStart: bigint;
      readonly ramdiskPfn: boolean;
      readonly p2mFirst: number;
      readonly p2mPages: number;
    },
  ): void {
    const { view } = this.#frames;
    const base = mfn * PAGE_BYTES;
    const { fields } = START_INFO;
    const image = this.#image;
    const wide = (field: { setLoHi(v: DataView, b: number, lo: number, hi: number): void }, value: bigint): void =>
      field.setLoHi(view, base, Number(value & 0xffffffffn), Number(value >> 32n));
    START_INFO.setString(view, base, "magic", MAGIC);
    wide(fields.nr_pages, BigInt(this.#p2m.length));
    wide(fields.shared_info, BigInt(at.sharedInfo) * PAGE);
    fields.flags.set(view, base, xen.SIF.VIRT_P2M_4TOOLS | (at.ramdiskPfn ? xen.SIF.MOD_START_PFN : 0));
    wide(fields.store_mfn, BigInt(at.store));
    fields.store_evtchn.set(view, base, image.storePort);
    wide(fields["console.domU.mfn"], BigInt(at.console));
    fields["console.domU.evtchn"].set(view, base, image.consolePort);
    wide(fields.pt_base, at.tableBase);
    wide(fields.nr_pt_frames, BigInt(at.tables));
    wide(fields.mfn_list, at.p2mAddress);
    if (image.ramdisk !== null) {
      wide(fields.mod_start, at.ramdiskStart);
      wide(fields.mod_len, BigInt(image.ramdisk.length));
    }
    START_INFO.setString(view, base, "cmd_line", image.commandLine);
    wide(fields.first_p2m_pfn, BigInt(at.p2mFirst));
    wide(fields.nr_p2m_frames, BigInt(at.p2mPages));
  }
}

function range({ first, pages }: Range): number[] {
  return Array.from({ length: pages }, (_, i) => first + i);
}
