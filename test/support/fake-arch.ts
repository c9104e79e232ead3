/**
 * A small arch backend without a CPU, for tests of core: guest memory is a flat address space of 4 KiB pages, hypercalls are
 * made by the test. Any word size, byte order and guest page size.
 *
 * Design: `translated` decides what a gfn is: a number in the guest's own map (HVM-like), or an mfn that it must own (PV-like).
 * `makeWorld` builds a machine with domain 0 and guests; `Guest` writes structures into guest memory and makes hypercalls, as often
 * as they are continued.
 */
import { ERRNO, GNTMAP, GNTST } from "../../core/abi/index.ts";
import type { ArchBackend, BuildResult, DomainImage, Exit } from "../../core/architecture/arch-backend.ts";
import type { GuestAbi } from "../../core/architecture/guest-abi.ts";
import { Domain } from "../../core/domain/domain.ts";
import { SharedInfo } from "../../core/domain/shared-info.ts";
import { VcpuTimers } from "../../core/domain/time.ts";
import { PauseFlag, Vcpu } from "../../core/domain/vcpu.ts";
import { EventChannels } from "../../core/event/event-channels.ts";
import { GrantTable } from "../../core/grant/grant-table.ts";
import { Hypercalls } from "../../core/hypercall/dispatcher.ts";
import { Result } from "../../core/hypercall/table.ts";
import { FRAME_SIZE, type Frames } from "../../core/machine/frames.ts";
import { defaultMachine, Machine } from "../../core/machine/machine.ts";

/** ABIs that between them differ in everything a GuestAbi can say. */
export const FAKE_ABIS: readonly GuestAbi[] = [
  { name: "fake-le64", pageShift: 12, wordBytes: 8, endian: "little", align64: 8, legacyVcpus: 32 },
  { name: "fake-le32", pageShift: 12, wordBytes: 4, endian: "little", align64: 4, legacyVcpus: 32 },
  { name: "fake-be64", pageShift: 13, wordBytes: 8, endian: "big", align64: 8, legacyVcpus: 4 },
  { name: "fake-be32", pageShift: 14, wordBytes: 4, endian: "big", align64: 8, legacyVcpus: 1 },
];

interface Page {
  readonly mfn: number;
  readonly writable: boolean;
  /** Mapped by a grant. */
  readonly granted: boolean;
}

/** What the fake knows of a domain. */
interface Space {
  readonly pages: Map<number, Page>;
  /** The physmap of a translated domain. */
  readonly physmap: Map<number, number>;
}

export class FakeArch implements ArchBackend {
  readonly abi: GuestAbi;
  readonly translated: boolean;
  readonly tick = 10e6;
  readonly capabilities = "fake-1.0";
  /** Arguments of the hypercall under way, by vCPU. */
  readonly registers = new Map<Vcpu, Uint32Array>();
  /** Set by continueHypercall. */
  continuation: { nr: number; args: Uint32Array } | null = null;
  readonly #frames: Frames;
  readonly #spaces = new Map<Domain, Space>();

  constructor(frames: Frames, abi: GuestAbi, translated: boolean) {
    this.#frames = frames;
    this.abi = abi;
    this.translated = translated;
  }

  space(domain: Domain): Space {
    let space = this.#spaces.get(domain);
    if (space === undefined) {
      space = { pages: new Map(), physmap: new Map() };
      this.#spaces.set(domain, space);
    }
    return space;
  }

  identify(): GuestAbi {
    return this.abi;
  }
  /** Pages [0, memoryFrames) of the address space are the domain's frames, with equal gfns. */
  buildDomain(domain: Domain, image: DomainImage): BuildResult {
    const space = this.space(domain);
    for (const [gfn, mfn] of this.#frames.allocate(domain.id, image.memoryFrames).entries()) {
      space.pages.set(gfn, { mfn, writable: true, granted: false });
      space.physmap.set(gfn, mfn);
      this.#frames.setGfn(mfn, gfn);
    }
    return { storeMfn: -1, consoleMfn: -1 };
  }
  /** Forgets the address space; the allocations are given back by the caller. */
  destroyDomain(domain: Domain): void {
    this.#spaces.delete(domain);
  }
  createVcpu(): void {}
  initialiseVcpu(_vcpu: Vcpu, caller: Vcpu, lo: number, hi: number): number {
    return this.copyFromGuest(caller, lo, hi, new Uint8Array(8), 8) ? 0 : -ERRNO.EFAULT;
  }
  run(_vcpu: Vcpu, _budget: number, _exit: Exit): number {
    throw new Error("the fake arch runs nothing");
  }
  requestExit(): void {}
  loadArguments(vcpu: Vcpu, into: Uint32Array): void {
    into.set(this.registers.get(vcpu) ?? new Uint32Array(12));
  }
  finishHypercall(): void {}
  continueHypercall(_vcpu: Vcpu, nr: number, args: Uint32Array): void {
    this.continuation = { nr, args: args.slice() };
  }
  finishIo(): void {}
  eventsDeliverable(vcpu: Vcpu): boolean {
    const { shared } = vcpu.domain;
    return shared?.upcallPending(vcpu) === true && !shared.upcallMask(vcpu);
  }

  /** The bytes at an address up to the end of its page; null: not mapped. */
  #at(vcpu: Vcpu, address: number, write: boolean): { mfn: number; offset: number } | null {
    const page = this.space(vcpu.domain).pages.get(Math.floor(address / FRAME_SIZE));
    if (page === undefined || (write && !page.writable)) return null;
    return { mfn: page.mfn, offset: address % FRAME_SIZE };
  }
  #copy(vcpu: Vcpu, lo: number, hi: number, bytes: Uint8Array, length: number, write: boolean): boolean {
    if (hi !== 0) return false;
    for (let done = 0; done < length; ) {
      const at = this.#at(vcpu, lo + done, write);
      if (at === null) return false;
      const part = Math.min(length - done, FRAME_SIZE - at.offset);
      const page = this.#frames.page(at.mfn).subarray(at.offset, at.offset + part);
      if (write) {
        page.set(bytes.subarray(done, done + part));
        this.#frames.wrote(at.mfn, at.offset, at.offset + part);
      } else bytes.set(page, done);
      done += part;
    }
    return true;
  }
  copyFromGuest(vcpu: Vcpu, lo: number, hi: number, into: Uint8Array, length: number): boolean {
    return this.#copy(vcpu, lo, hi, into, length, false);
  }
  copyToGuest(vcpu: Vcpu, lo: number, hi: number, from: Uint8Array, length: number): boolean {
    return this.#copy(vcpu, lo, hi, from, length, true);
  }

  gfnToMfn(domain: Domain, gfn: number): number {
    if (this.translated) return this.space(domain).physmap.get(gfn) ?? -1;
    return this.#frames.owns(domain.id, gfn) ? gfn : -1;
  }
  mapGrant(vcpu: Vcpu, lo: number, hi: number, mfn: number, flags: number): number {
    const { pages } = this.space(vcpu.domain);
    const page = Math.floor(lo / FRAME_SIZE);
    if (hi !== 0 || lo % FRAME_SIZE !== 0 || pages.has(page)) return GNTST.general_error;
    pages.set(page, { mfn, writable: (flags & GNTMAP.readonly) === 0, granted: true });
    return GNTST.okay;
  }
  unmapGrant(vcpu: Vcpu, lo: number, hi: number, mfn: number, _flags: number, newLo: number, newHi: number): number {
    const { pages } = this.space(vcpu.domain);
    const page = Math.floor(lo / FRAME_SIZE);
    const there = pages.get(page);
    if (hi !== 0 || there?.mfn !== mfn || !there.granted) return GNTST.general_error;
    if (newLo === 0 && newHi === 0) {
      pages.delete(page);
      return GNTST.okay;
    }
    const from = pages.get(Math.floor(newLo / FRAME_SIZE));
    if (newHi !== 0 || from === undefined || from.granted) return GNTST.general_error;
    pages.delete(Math.floor(newLo / FRAME_SIZE));
    pages.set(page, from);
    return GNTST.okay;
  }
  setPhysmap(domain: Domain, gfn: number, mfn: number): number {
    if (!this.translated) return -ERRNO.ENOSYS;
    const { physmap, pages } = this.space(domain);
    if (mfn < 0) {
      physmap.delete(gfn);
      pages.delete(gfn);
    } else {
      physmap.set(gfn, mfn);
      pages.set(gfn, { mfn, writable: true, granted: false });
      this.#frames.setGfn(mfn, gfn);
    }
    return 0;
  }
  releaseFrame(domain: Domain, gfn: number, mfn: number): boolean {
    const { physmap, pages } = this.space(domain);
    if (this.translated) physmap.delete(gfn);
    for (const [number, page] of pages) if (page.mfn === mfn) pages.delete(number);
    return true;
  }
  acquireFrame(domain: Domain, gfn: number, mfn: number): void {
    if (this.translated) this.space(domain).physmap.set(gfn, mfn);
  }
  describe(): string {
    return "fake";
  }
}

/** A guest of the world: its memory and its hypercalls. */
export class Guest {
  readonly machine: Machine;
  readonly domain: Domain;
  readonly arch: FakeArch;
  readonly hypercalls: Hypercalls;
  /** How often the last hypercall was continued. */
  continued = 0;
  #next = FRAME_SIZE;

  constructor(machine: Machine, domain: Domain, arch: FakeArch, hypercalls: Hypercalls) {
    this.machine = machine;
    this.domain = domain;
    this.arch = arch;
    this.hypercalls = hypercalls;
  }

  get abi(): GuestAbi {
    return this.domain.abi;
  }
  get vcpu(): Vcpu {
    return this.domain.vcpus[0]!;
  }
  /** The frame at a page of the address space. */
  mfn(page: number): number {
    return this.arch.space(this.domain).pages.get(page)?.mfn ?? -1;
  }
  /** What interfaces call the frame at a page: a gfn or an mfn. */
  gfn(page: number): number {
    return this.arch.translated ? page : this.mfn(page);
  }

  /** Takes zeroed bytes of guest memory; returns their address. */
  allocate(bytes: number): number {
    const at = this.#next;
    this.#next += Math.ceil(bytes / 16) * 16;
    this.poke(at, new Uint8Array(bytes));
    return at;
  }
  poke(address: number, bytes: Uint8Array): void {
    if (!this.arch.copyToGuest(this.vcpu, address, 0, bytes, bytes.length)) throw new Error(`no memory at ${address}`);
  }
  peek(address: number, length: number): DataView {
    const bytes = new Uint8Array(length);
    if (!this.arch.copyFromGuest(this.vcpu, address, 0, bytes, length)) throw new Error(`no memory at ${address}`);
    return new DataView(bytes.buffer);
  }

  /** Makes a hypercall until it is done; arguments are numbers (negative: two's complement of 64 bits). */
  call(nr: number, ...args: number[]): number {
    return this.callOn(this.vcpu, nr, ...args);
  }
  callOn(vcpu: Vcpu, nr: number, ...args: number[]): number {
    const registers = new Uint32Array(12);
    for (const [i, value] of args.entries()) {
      registers[2 * i] = value >>> 0;
      registers[2 * i + 1] = this.abi.wordBytes === 8 ? Math.floor(value / 0x1_0000_0000) >>> 0 : 0;
    }
    this.continued = 0;
    let number = nr;
    for (;;) {
      this.arch.registers.set(vcpu, registers);
      const result = this.hypercalls.dispatch(vcpu, number);
      this.machine.takeCharge();
      if (result !== Result.continued) return result;
      const again = this.arch.continuation!;
      this.arch.continuation = null;
      registers.set(again.args);
      number = again.nr;
      this.continued++;
    }
  }
}

/** A machine with domain 0 and guests. */
export interface World {
  readonly machine: Machine;
  readonly dom0: Domain;
  readonly guests: readonly Guest[];
  readonly timers: VcpuTimers;
  /** What onShutdown was told. */
  readonly shutdowns: { domain: Domain; reason: number }[];
  readonly log: string[];
  /** Destroys a guest as the hypervisor does. */
  destroy(guest: Guest): void;
}

export interface WorldOptions {
  readonly abi?: GuestAbi;
  readonly translated?: boolean;
  readonly guests?: number;
  readonly vcpus?: number;
  /** Frames of each guest. */
  readonly frames?: number;
  readonly memoryMiB?: number;
}

export function makeWorld(options: WorldOptions = {}): World {
  const { abi = FAKE_ABIS[0]!, translated = false, guests = 1, vcpus = 1, frames = 32, memoryMiB = 4 } = options;
  const machine = new Machine({ ...defaultMachine, memoryMiB });
  machine.control = {
    setFlag: (vcpu, flag) => {
      vcpu.pauseFlags |= flag;
    },
    clearFlag: (vcpu, flag) => {
      vcpu.pauseFlags &= ~flag;
    },
    pauseVcpu: (vcpu) => {
      vcpu.pauseCount++;
    },
    unpauseVcpu: (vcpu) => {
      vcpu.pauseCount--;
    },
    pauseDomain: (domain) => {
      domain.pauseCount++;
    },
    unpauseDomain: (domain) => {
      domain.pauseCount--;
    },
    reconsider: () => {},
    yieldNow: () => {},
  };
  const log: string[] = [];
  machine.onLog = (line) => log.push(line);
  const shutdowns: { domain: Domain; reason: number }[] = [];
  machine.onShutdown = (domain, reason) => shutdowns.push({ domain, reason });
  const dom0 = new Domain({ id: 0, uuid: "0", type: "host" }, "Domain-0", null, FAKE_ABIS[0]!);
  const timers = new VcpuTimers(machine);
  const hypercalls = new Hypercalls(machine);
  const add = (domain: Domain): void => {
    domain.events = new EventChannels(machine, domain);
    domain.grants = new GrantTable(machine, domain);
    machine.domains.set(domain.id, domain);
  };
  add(dom0);
  const arch = new FakeArch(machine.frames, abi, translated);
  const made = Array.from({ length: guests }, (_, i) => {
    const id = i + 1;
    const uuid = `0000000${id}-0000-0000-0000-00000000000${id}`;
    const domain = new Domain({ id, uuid, type: "fake" }, `guest${id}`, arch, abi);
    add(domain);
    domain.maxFrames = frames;
    SharedInfo.allocate(machine.frames, domain);
    arch.buildDomain(domain, { memoryFrames: frames } as DomainImage);
    for (let v = 0; v < vcpus; v++) {
      const vcpu = new Vcpu(domain, v, 0, [0]);
      domain.vcpus.push(vcpu);
      domain.shared!.attach(vcpu);
      timers.attach(vcpu);
      vcpu.initialised = v === 0;
      if (v === 0) vcpu.pauseFlags &= ~PauseFlag.down;
    }
    return new Guest(machine, domain, arch, hypercalls);
  });
  const destroy = (guest: Guest): void => {
    const { domain } = guest;
    domain.dying = true;
    for (const vcpu of domain.vcpus) timers.detach(vcpu);
    domain.events.destroy();
    arch.destroyDomain(domain);
    domain.grants.destroy();
    for (const vcpu of domain.vcpus) domain.shared?.detach(vcpu);
    domain.shared?.release(domain);
    machine.frames.disown(domain.id);
    if (machine.frames.ownedBy(domain.id) === 0) machine.domains.delete(domain.id);
  };
  return { machine, dom0, guests: made, timers, shutdowns, log, destroy };
}
