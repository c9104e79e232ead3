/**
 * What a domain of the port is: harts, guest-physical memory, and what is mapped there besides RAM.
 *
 * Guest-physical memory: RAM from RAM_BASE on; the console and XenStore pages at MAGIC_BASE (as on Arm); emulated devices where they say; else
 * what the guest maps by add_to_physmap and grants.
 * Invariants: a gfn that a grant has mapped changes by unmapping that grant alone; a frame that leaves the map is forgotten by every TLB before
 * anybody else may have it; the tables of the map are bounded, whatever a guest maps where; nothing here throws for what a guest asks.
 */
import {
  type Domain,
  FRAME_SIZE,
  type Frames,
  INVALID_GFN,
  OutOfFrames,
  OWNER_XEN,
  type Timer,
  type Vcpu,
  xen,
} from "hookvisor";
import { IRQ_EXTERNAL, P2M_MMIO, P2m, type RiscvGuest, type RiscvHart, type RiscvMachine } from "./cpu.ts";
import type { Placement } from "./loader.ts";

const { ERRNO, GNTMAP, GNTST } = xen;

/** The special pages (Xen on Arm: GUEST_MAGIC_BASE with CONSOLE_PFN_OFFSET, XENSTORE_PFN_OFFSET). */
export const MAGIC_BASE = 0x3900_0000;
export const CONSOLE_GFN = MAGIC_BASE / FRAME_SIZE;
export const STORE_GFN = CONSOLE_GFN + 1;

/** gfns that interfaces may name: P2m reaches no further. */
const MOST_GFN = 2 ** 30;
/** Table frames that a domain may have beyond what its RAM and devices need (a leaf table serves 4 MiB). */
const SPARE_TABLES = 64;
/** Most gfns of one domain's emulated devices. */
const MOST_MMIO = 2 ** 18;

const CSR_SCOUNTEREN = 0x106;

/** State of a hart as SBI's HSM extension has it. */
export const HartState = Object.freeze({ started: 0, stopped: 1, suspended: 4 });

/** One hart. */
export class RiscvVcpu {
  readonly vcpu: Vcpu;
  readonly hart: RiscvHart;
  readonly world: RiscvDomain;
  state: number = HartState.stopped;
  /** SBI's timer. */
  timer: Timer | null = null;
  /** hart.retiredNow when the present run began. */
  base = 0;

  constructor(vcpu: Vcpu, hart: RiscvHart, world: RiscvDomain) {
    this.vcpu = vcpu;
    this.hart = hart;
    this.world = world;
    hart.owner = this;
  }

  /** Begins at a physical address in S-mode, without translation: a0 is the hart's number, a1 the argument (SBI 9.1, and how a kernel is booted). */
  start(pcLo: number, pcHi: number, argumentLo: number, argumentHi: number): void {
    const { hart } = this;
    // What the interrupt controller says stays so: it tells of changes only.
    const external = hart.pin(IRQ_EXTERNAL);
    hart.reset();
    hart.setPin(IRQ_EXTERNAL, external);
    hart.setPc(pcLo, pcHi);
    hart.setX(10, this.vcpu.id, 0);
    hart.setX(11, argumentLo, argumentHi);
    // Firmware leaves cycle, time and instret readable in user mode (OpenSBI, KVM), and Linux's vDSO counts on it.
    hart.writeCsr(CSR_SCOUNTEREN, 7, 0);
    this.state = HartState.started;
    // VCPUOP_up and down may pause it from now on.
    this.vcpu.initialised = true;
  }

  /** Does not run until it is started again. */
  stop(): void {
    this.cancelTimer();
    this.state = HartState.stopped;
    this.vcpu.initialised = false;
  }

  cancelTimer(): void {
    this.timer?.cancel();
    this.timer = null;
  }
}

/** Table frames of one domain, out of the hypervisor's memory, within a bound. */
class TableFrames {
  readonly #frames: Frames;
  /** Tables that may still be made. */
  left = 4;

  constructor(frames: Frames) {
    this.#frames = frames;
  }

  allocate(): number {
    if (this.left === 0) return -1;
    try {
      const [frame = -1] = this.#frames.allocate(OWNER_XEN, 1);
      this.left--;
      return frame;
    } catch (error) {
      if (error instanceof OutOfFrames) return -1;
      throw error;
    }
  }

  free(frame: number): void {
    this.left++;
    this.#frames.dropAllocation(frame);
  }
}

export class RiscvDomain {
  readonly domain: Domain;
  readonly guest: RiscvGuest;
  readonly p2m: P2m;
  readonly vcpus: RiscvVcpu[] = [];
  /** Bytes of RAM. */
  memory = 0;
  placement: Placement | null = null;
  commandLine = "";
  readonly #frames: Frames;
  readonly #machine: RiscvMachine;
  readonly #tables: TableFrames;
  /** gfn -> mfn of grants that are mapped. */
  readonly #granted = new Map<number, number>();
  /** First and last gfn of each region of an emulated device. */
  readonly #mmio: { readonly from: number; readonly to: number }[] = [];
  #maximumGfn = 0;

  /** Throws OutOfFrames. */
  constructor(domain: Domain, machine: RiscvMachine, frames: Frames) {
    this.domain = domain;
    this.#frames = frames;
    this.#machine = machine;
    this.#tables = new TableFrames(frames);
    if (frames.free === 0) throw new OutOfFrames("a p2m's first frame wanted, 0 free");
    this.p2m = new P2m(frames.memory, frames.count, this.#tables);
    this.guest = machine.createGuest(this.p2m);
  }

  /** Room for tables that map `bytes` in one piece, and the spare ones. */
  allowTables(bytes: number): void {
    this.#tables.left += Math.ceil(bytes / 0x40_0000) + 2;
  }

  /** Puts a frame of the domain's own at a gfn, while the domain is built. Throws OutOfFrames. */
  populate(gfn: number, mfn: number): void {
    if (!this.p2m.set(gfn, mfn)) throw new OutOfFrames("p2m tables wanted, no frame free");
    this.#frames.setGfn(mfn, gfn);
    this.#maximumGfn = Math.max(this.#maximumGfn, gfn);
  }

  /** All of memory is there: what is left of tables is what a guest may use up. */
  populated(): void {
    this.#tables.left = SPARE_TABLES;
  }

  /** Makes a region a device's. False: something else is there, it is too large, or there are no frames. */
  addDevice(base: number, size: number): boolean {
    const from = Math.floor(base / FRAME_SIZE);
    const to = Math.floor((base + size - 1) / FRAME_SIZE);
    let count = to - from + 1;
    for (const region of this.#mmio) count += region.to - region.from + 1;
    if (to >= MOST_GFN || count > MOST_MMIO) return false;
    const { left } = this.#tables;
    this.allowTables(size);
    for (let gfn = from; gfn <= to; gfn++) if (this.p2m.get(gfn) >= 0 || !this.p2m.setMmio(gfn)) return false;
    this.#tables.left = left;
    this.#mmio.push({ from, to });
    return true;
  }

  get maximumGfn(): number {
    return this.#maximumGfn;
  }

  /** The machine frame of the domain's own at a gfn, or -1. */
  frameAt(gfn: number): number {
    const mfn = this.p2m.get(gfn);
    return mfn >= 0 && this.#frames.owns(this.domain.id, mfn) ? mfn : -1;
  }

  /** May a mapping be put here, or what is here be replaced? Devices and grants stay. */
  #free(gfn: number): boolean {
    return gfn >= 0 && gfn < MOST_GFN && this.p2m.get(gfn) !== P2M_MMIO && !this.#granted.has(gfn);
  }

  /** Nothing is at a gfn any more. */
  #remove(gfn: number): void {
    const mfn = this.p2m.get(gfn);
    if (mfn < 0) return;
    this.p2m.clear(gfn);
    this.#machine.engine.flushFrame(mfn);
    if (this.#frames.owns(this.domain.id, mfn) && this.#frames.gfnOf[mfn] === gfn)
      this.#frames.setGfn(mfn, INVALID_GFN);
  }

  /** Puts a frame at a gfn, instead of what is there: 0 or a negative errno. mfn -1: nothing. What was there stays the domain's. */
  setPhysmap(gfn: number, mfn: number): number {
    if (!this.#free(gfn)) return -ERRNO.EINVAL;
    this.#remove(gfn);
    if (mfn < 0) return 0;
    // A frame is in one place: it moves.
    const old = this.#frames.gfnOf[mfn] ?? INVALID_GFN;
    if (old !== INVALID_GFN && this.p2m.get(old) === mfn) this.#remove(old);
    if (!this.p2m.set(gfn, mfn)) return -ERRNO.ENOMEM;
    this.#frames.setGfn(mfn, gfn);
    this.#maximumGfn = Math.max(this.#maximumGfn, gfn);
    return 0;
  }

  /** Maps a granted frame at a guest-physical address; GNTST_*. As on Arm there is nothing but GNTMAP_host_map and GNTMAP_readonly. */
  mapGrant(lo: number, hi: number, mfn: number, flags: number): number {
    if ((flags & GNTMAP.contains_pte) !== 0) return GNTST.general_error;
    const gfn = gfnOf(lo, hi);
    if (gfn < 0 || !this.#free(gfn)) return GNTST.bad_virt_addr;
    this.#remove(gfn);
    if (!this.p2m.set(gfn, mfn, (flags & GNTMAP.readonly) === 0)) return GNTST.no_space;
    this.#granted.set(gfn, mfn);
    return GNTST.okay;
  }

  unmapGrant(lo: number, hi: number, mfn: number, flags: number, newLo: number, newHi: number): number {
    if (newLo !== 0 || newHi !== 0 || (flags & GNTMAP.contains_pte) !== 0) return GNTST.general_error;
    const gfn = gfnOf(lo, hi);
    if (this.#granted.get(gfn) !== mfn) return GNTST.general_error;
    this.#granted.delete(gfn);
    this.#remove(gfn);
    return GNTST.okay;
  }

  /** Takes a frame out of the map, wherever it is; false: it is not at that gfn. */
  releaseFrame(gfn: number, mfn: number): boolean {
    if (this.frameAt(gfn) !== mfn || this.#granted.has(gfn)) return false;
    this.#remove(gfn);
    return true;
  }

  /** A fresh frame; one that has no place (it has no gfn, or a device or a grant is there) is the domain's, and nowhere. */
  acquireFrame(gfn: number, mfn: number): void {
    if (this.#free(gfn)) this.setPhysmap(gfn, mfn);
  }

  /** Calls `each` with the pieces of [address, address + length) of RAM: machine byte address, offset and length. False: there is none somewhere; then it was not called at all. */
  pieces(
    address: number,
    length: number,
    write: boolean,
    each: (at: number, offset: number, count: number) => void,
  ): boolean {
    for (const call of [false, true])
      for (let offset = 0; offset < length; ) {
        const gfn = Math.floor((address + offset) / FRAME_SIZE);
        const within = (address + offset) % FRAME_SIZE;
        const count = Math.min(length - offset, FRAME_SIZE - within);
        const mfn = this.p2m.get(gfn);
        if (mfn < 0 || (write && !this.p2m.writable(gfn))) return false;
        if (call) each(mfn * FRAME_SIZE + within, offset, count);
        offset += count;
      }
    return true;
  }

  /** Writes guest-physical memory. False: it is not all RAM; nothing is written. */
  write(address: number, from: Uint8Array): boolean {
    return this.pieces(address, from.length, true, (at, offset, count) => {
      this.#frames.bytes.set(from.subarray(offset, offset + count), at);
      const within = at % FRAME_SIZE;
      this.#frames.wrote(Math.floor(at / FRAME_SIZE), within, within + count);
    });
  }

  /** Reads guest-physical memory. False: it is not all RAM. */
  read(address: number, into: Uint8Array): boolean {
    return this.pieces(address, into.length, false, (at, offset, count) => {
      into.set(this.#frames.bytes.subarray(at, at + count), offset);
    });
  }

  /** Gives all frames of tables back; no hart runs any more. */
  destroy(): void {
    for (const v of this.vcpus) v.cancelTimer();
    this.guest.destroy();
    this.p2m.destroy();
  }
}

/** The gfn of an address of a page; -1: it is none. */
function gfnOf(lo: number, hi: number): number {
  const gfn = hi * 2 ** 20 + (lo >>> 12);
  return (lo & (FRAME_SIZE - 1)) === 0 && gfn < MOST_GFN ? gfn : -1;
}
