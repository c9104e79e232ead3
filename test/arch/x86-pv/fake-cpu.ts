/** A register file without a CPU behind it, and what a PV vCPU needs around it, for the port's tests. */
import { type ArchHost, createHooks, type Domain, Frames, type Vcpu } from "hookvisor";
import type { PvCpu } from "../../../arch/x86-pv/cpu.ts";
import { MachineToPhysical } from "../../../arch/x86-pv/m2p.ts";
import { PageTables } from "../../../arch/x86-pv/mm/page-tables.ts";
import { GuestMemory } from "../../../arch/x86-pv/mm/walk.ts";
import { Bounce } from "../../../arch/x86-pv/traps/bounce.ts";
import { Traps } from "../../../arch/x86-pv/traps/exceptions.ts";
import { PvVcpu } from "../../../arch/x86-pv/vcpu-state.ts";

export class FakeCpu implements PvCpu {
  readonly registers = new Uint32Array(32);
  readonly rip = [0, 0];
  readonly selectors = new Uint16Array(6);
  readonly bases = new Uint32Array(12);
  rflags = 2;
  roots = [0, 0];
  user = false;
  taskSwitched = false;
  flushes = 0;
  raised: readonly [vector: number, error: number] | null = null;
  result: readonly [number, number] = [0, 0];
  zero = false;
  lo(n: number): number {
    return this.registers[2 * n]!;
  }
  hi(n: number): number {
    return this.registers[2 * n + 1]!;
  }
  set(n: number, lo: number, hi: number): void {
    this.registers[2 * n] = lo;
    this.registers[2 * n + 1] = hi;
  }
  ripLo(): number {
    return this.rip[0]!;
  }
  ripHi(): number {
    return this.rip[1]!;
  }
  setRip(lo: number, hi: number): void {
    this.rip[0] = lo >>> 0;
    this.rip[1] = hi >>> 0;
  }
  flags(): number {
    return this.rflags;
  }
  setFlags(flags: number): void {
    this.rflags = flags >>> 0;
  }
  selector(segment: number): number {
    return this.selectors[segment]!;
  }
  baseLo(segment: number): number {
    return this.bases[2 * segment]!;
  }
  baseHi(segment: number): number {
    return this.bases[2 * segment + 1]!;
  }
  setBase(segment: number, lo: number, hi: number): void {
    this.bases[2 * segment] = lo;
    this.bases[2 * segment + 1] = hi;
  }
  setSegment(segment: number, selector: number, base: number): void {
    this.selectors[segment] = selector;
    this.setBase(segment, base, 0);
  }
  setRoot(user: boolean, mfn: number): void {
    this.roots[user ? 1 : 0] = mfn;
  }
  setUser(user: boolean): void {
    this.user = user;
  }
  flushAll(): void {
    this.flushes++;
  }
  flushPage(): void {
    this.flushes++;
  }
  setTaskSwitched(on: boolean): void {
    this.taskSwitched = on;
  }
  raise(vector: number, error: number): void {
    this.raised = [vector, error];
  }
  raisePageFault(code: number): void {
    this.raised = [14, code];
  }
  setResult(lo: number, hi: number): void {
    this.result = [lo, hi];
  }
  setZero(on: boolean): void {
    this.zero = on;
  }
  retired(): number {
    return 0;
  }
  loadFpu(): boolean {
    return true;
  }
  describe(): string {
    return "a fake CPU";
  }
}

/** A domain id of the tests, and another. */
export const SELF = 1;
export const OTHER = 2;

/** Memory, page tables and one vCPU of domain SELF. */
export class Bench {
  readonly frames: Frames;
  readonly m2p: MachineToPhysical;
  readonly tables: PageTables;
  readonly memory: GuestMemory;
  readonly bounce: Bounce;
  readonly traps: Traps;
  readonly cpu = new FakeCpu();
  readonly v: PvVcpu;
  readonly hooks = createHooks();
  readonly host: ArchHost;
  readonly log: string[] = [];
  charged = 0;

  constructor(frames = 256) {
    this.frames = new Frames(frames);
    this.m2p = new MachineToPhysical(this.frames);
    this.tables = new PageTables(this.frames, this.m2p.entry, {
      charge: (instructions) => {
        this.charged += instructions;
      },
      descriptorsUnmapped: () => {
        this.v.releaseLdt();
      },
    });
    this.memory = new GuestMemory(this.frames);
    this.bounce = new Bounce(this.memory);
    this.traps = new Traps(this.memory, this.bounce, this.hooks, () => 0);
    const domain = { id: SELF, vmAssist: 0 } as Domain;
    const [info] = this.frames.allocate(SELF, 1);
    this.v = new PvVcpu({ id: 0, domain, infoAddress: info! * 4096 } as unknown as Vcpu, this.cpu, this.tables);
    this.host = {
      frames: this.frames,
      charge: (n: number) => {
        this.charged += n;
      },
      timeOf: () => 5_000_000_123,
      domain: (id: number) => (id === OTHER ? { id } : undefined),
    } as unknown as ArchHost;
  }

  /** Frames of a domain. */
  take(count: number, domid = SELF): number[] {
    return this.frames.allocate(domid, count);
  }

  /** Writes a raw entry, without checks. */
  entry(mfn: number, index: number, lo: number, hi = 0): void {
    this.tables.writeRaw(mfn, index, lo >>> 0, hi >>> 0);
  }

  /**
   * An address space of one L1 table for addresses below 2 MiB: page i of `pages` at address i * 4096, writable where it says so.
   * The root is pinned and is the vCPU's.
   */
  space(pages: readonly { readonly mfn: number; readonly writable?: boolean }[]): {
    readonly root: number;
    readonly l3: number;
    readonly l2: number;
    readonly l1: number;
  } {
    const [root, l3, l2, l1] = this.take(4) as [number, number, number, number];
    this.entry(root, 0, (l3 << 12) | 7);
    this.entry(l3, 0, (l2 << 12) | 7);
    this.entry(l2, 0, (l1 << 12) | 7);
    for (const [i, { mfn, writable }] of pages.entries()) this.entry(l1, i, (mfn << 12) | (writable === false ? 5 : 7));
    if (this.tables.pin(root, 5, SELF) !== 0) throw new Error("the test's address space is refused");
    if (this.tables.getPageAndType(root, 5, SELF) !== 0) throw new Error("the test's root is refused");
    this.v.kernelRoot = root;
    return { root, l3, l2, l1 };
  }
}
