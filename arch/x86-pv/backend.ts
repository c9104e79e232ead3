/**
 * The arch backend for 64-bit PV domains: puts the parts together and runs vCPUs on the software CPU of arch/x86.
 *
 * A run delivers a pending event first, then executes until its budget, a hypercall, or a trap. Traps are bounced to the guest here, and
 * each ends the run, so that what it costs reaches the clock before the next instruction.
 *
 * Invariants: no frame changes type, owner or is freed before the engine's TLBs forget it (Frames.onRetype); every write from outside
 * reaches the translation cache (Frames.onWrite); nothing throws because of a guest.
 */
import {
  type ArchBackend,
  type ArchHost,
  type BuildResult,
  ConfigError,
  type Domain,
  type DomainImage,
  type Exit,
  ExitCode,
  type GuestAbi,
  INVALID_GFN,
  type Vcpu,
  xen,
} from "hookvisor";
import {
  SYSTEM_EXIT,
  SYSTEM_JUMP,
  SYSTEM_JUMP_EXIT,
  SYSTEM_NEXT,
  type SystemOperation,
  X86_EXIT_EXCEPTION,
  X86_EXIT_PLATFORM,
  X86Machine,
  type X86Vcpu,
} from "../x86/index.ts";
import type { PvContext } from "./context.ts";
import { CS, DS, ES, FLAG_IF, FS, GS, R8, R9, R10, RAX, RDI, RDX, RSI, RSP, SS } from "./cpu.ts";
import { X86Cpu } from "./cpu-x86.ts";
import { pvCpuid } from "./cpuid.ts";
import { initialiseVcpu } from "./initialise-vcpu.ts";
import { Builder } from "./loader/builder.ts";
import { type ElfImage, parseElf } from "./loader/elf.ts";
import { type KernelParameters, kernelParameters } from "./loader/notes.ts";
import { MachineToPhysical } from "./m2p.ts";
import { WriteEmulator } from "./mm/emulate-write.ts";
import { mapGrant, unmapGrant } from "./mm/grant-map.ts";
import { PageTables } from "./mm/page-tables.ts";
import { guestAddress, TYPE_L4 } from "./mm/pte.ts";
import { setKernelRoot } from "./mm/roots.ts";
import { GuestMemory } from "./mm/walk.ts";
import { CR4, EXIT_HYPERCALL, PrivilegedOps } from "./privop.ts";
import { Bounce, loadFlat, NO_ERROR } from "./traps/bounce.ts";
import { PF_FETCH, PF_PRESENT, PF_RESERVED, PF_WRITE, Traps, VECTOR_PF, VECTOR_UD } from "./traps/exceptions.ts";
import { PvVcpu } from "./vcpu-state.ts";

/** The ABI of a 64-bit PV guest on x86. */
export const PV_ABI: GuestAbi = Object.freeze({
  name: "x86-pv-64",
  pageShift: 12,
  wordBytes: 8,
  endian: "little",
  align64: 8,
  legacyVcpus: xen.XEN_LEGACY_MAX_VCPUS,
});

/** Instructions that a trap, an emulated page-table write, and a forced cpuid cost, as an exit to Xen would. */
const TRAP_COST = 400;
const EMULATION_COST = 1000;

/** ud2a; "xen"; cpuid. */
const FORCED_CPUID = [0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2];

/** Registers of hypercall arguments. */
const ARGUMENTS = [RDI, RSI, RDX, R10, R8, R9] as const;

/** XENFEAT_* bits that every PV domain has. */
const FEATURES = [
  xen.XENFEAT.mmu_pt_update_preserve_ad,
  xen.XENFEAT.highmem_assist,
  xen.XENFEAT.gnttab_map_avail_bits,
  xen.XENFEAT.memory_op_vnode_supported,
  xen.XENFEAT.direct_mapped,
].reduce((bits, bit) => bits | (1 << bit), 0);

const { ERRNO, VMASST_TYPE } = xen;
const WRITABLE_PAGETABLES = 1 << VMASST_TYPE.writable_pagetables;

/** Options of the backend. */
export interface PvOptions {
  /** Which tier runs guests: the fast one, or the readable oracle of the tests. */
  readonly tier?: "interpreter" | "oracle";
}

/** Checks an image's headers and notes. Throws ImageError. */
export function inspectImage(
  image: Uint8Array,
  name: string,
): { readonly elf: ElfImage; readonly kernel: KernelParameters } {
  const elf = parseElf(image, name);
  return { elf, kernel: kernelParameters(elf) };
}

export class PvBackend implements ArchBackend, PvContext {
  readonly host: ArchHost;
  readonly tables: PageTables;
  readonly memory: GuestMemory;
  readonly traps: Traps;
  readonly machine: X86Machine;
  readonly tick = 10_000_000;
  readonly capabilities = "xen-3.0-x86_64 ";
  readonly vmAssists = Object.freeze([0, 1, 2, 3, 4, 5]);
  readonly #bounce: Bounce;
  readonly #privileged: PrivilegedOps;
  readonly #emulator: WriteEmulator;
  readonly #states = new Map<Vcpu, PvVcpu>();
  readonly #byCpu = new Map<X86Vcpu, PvVcpu>();
  readonly #byDomain = new Map<Domain, PvVcpu[]>();
  /** requestExit was called during the present run. */
  #stop = false;
  readonly #prefix = new Uint8Array(FORCED_CPUID.length);

  constructor(host: ArchHost, options: PvOptions = {}) {
    const { frames } = host;
    this.host = host;
    const m2p = new MachineToPhysical(frames);
    this.tables = new PageTables(frames, m2p.entry, {
      charge: (instructions) => host.charge(instructions),
      descriptorsUnmapped: (domid) => this.#descriptorsUnmapped(domid),
    });
    this.memory = new GuestMemory(frames);
    this.#bounce = new Bounce(this.memory);
    this.traps = new Traps(this.memory, this.#bounce, host.hooks, () => host.now());
    const cpuid = pvCpuid(host.xenVersion);
    this.#privileged = new PrivilegedOps(host, this.memory, this.traps, cpuid, () => this.strict());
    this.#emulator = new WriteEmulator(this.memory);
    this.machine = new X86Machine({
      memory: frames.memory,
      frames: frames.count,
      platform: { system: (x, operation) => this.#system(x, operation) },
      cpuid,
      ...(options.tier === undefined ? {} : { tier: options.tier }),
    });
    const { engine } = this.machine;
    frames.onRetype((mfn) => engine.flushFrame(mfn));
    frames.onWrite((mfn, from, to) => engine.wroteFrame(mfn, from, to));
  }

  strict(): boolean {
    return false;
  }

  stateOf(vcpu: Vcpu): PvVcpu {
    const v = this.#states.get(vcpu);
    if (v === undefined) throw new Error(`${vcpu} is no vCPU of a PV domain`);
    return v;
  }

  statesOf(domain: Domain): readonly PvVcpu[] {
    return this.#byDomain.get(domain) ?? [];
  }

  identify(image: Uint8Array, name: string): GuestAbi {
    inspectImage(image, name);
    return PV_ABI;
  }

  /** Throws ConfigError where the machine has no room for another. */
  createVcpu(vcpu: Vcpu): void {
    const { left, most } = this.machine.engine.vcpuRoom;
    if (left === 0)
      throw new ConfigError(
        `Domain '${vcpu.domain.name}' does not fit: the PV domains of a machine have ${most} vCPUs at most, all together.`,
      );
    const x = this.machine.createVcpu();
    const v = new PvVcpu(vcpu, new X86Cpu(x), this.tables);
    v.cr4 = CR4;
    this.#states.set(vcpu, v);
    this.#byCpu.set(x, v);
    const all = this.#byDomain.get(vcpu.domain);
    if (all === undefined) this.#byDomain.set(vcpu.domain, [v]);
    else all.push(v);
  }

  buildDomain(domain: Domain, image: DomainImage): BuildResult {
    const { frames } = this.host;
    const { elf, kernel } = inspectImage(image.kernel, image.kernelName);
    const p2m = frames.allocate(domain.id, image.memoryFrames);
    for (const [gfn, mfn] of p2m.entries()) frames.setGfn(mfn, gfn);
    const built = new Builder(frames, elf, kernel, image, p2m).build(domain.sharedInfo);
    for (const vcpu of domain.vcpus) this.#bounce.info.setMask(this.stateOf(vcpu), true);
    const failed = this.tables.pin(built.root, TYPE_L4, domain.id);
    if (failed !== 0) throw new Error(`the first page tables of ${domain} are refused (${failed})`);
    domain.grants.grantToBackend(0, built.consoleMfn);
    domain.grants.grantToBackend(1, built.storeMfn);
    const v = this.stateOf(domain.vcpus[0]!);
    if (setKernelRoot(v, built.root, this.strict()) !== 0) throw new Error(`the first root of ${domain} is refused`);
    const { cpu } = v;
    setWide(cpu, RSP, built.stack);
    setWide(cpu, RSI, built.startInfo);
    cpu.setRip(Number(built.entry & 0xffffffffn), Number(built.entry >> 32n));
    cpu.setFlags(FLAG_IF | 2);
    for (const segment of [ES, DS, FS, GS]) cpu.setSegment(segment, 0, 0, 0, 0);
    loadFlat(v, CS, xen.x86_64.FLAT_KERNEL_CS);
    loadFlat(v, SS, xen.x86_64.FLAT_KERNEL_SS);
    v.kernelSs = xen.x86_64.FLAT_KERNEL_SS;
    v.kernelSpLo = cpu.lo(RSP);
    v.kernelSpHi = cpu.hi(RSP);
    return { storeMfn: built.storeMfn, consoleMfn: built.consoleMfn };
  }

  destroyDomain(domain: Domain): void {
    for (const v of this.statesOf(domain)) {
      v.release();
      this.#states.delete(v.vcpu);
      const { x } = v.cpu as X86Cpu;
      this.#byCpu.delete(x);
      this.machine.destroyVcpu(x);
    }
    this.tables.unpinAll(domain.id);
    this.#byDomain.delete(domain);
  }

  initialiseVcpu(vcpu: Vcpu, caller: Vcpu, lo: number, hi: number): number {
    return initialiseVcpu(this, this.stateOf(vcpu), this.stateOf(caller), lo, hi, this.#bounce.info);
  }

  run(vcpu: Vcpu, budget: number, exit: Exit): number {
    const v = this.stateOf(vcpu);
    const cpu = v.cpu as X86Cpu;
    cpu.begin();
    this.#stop = false;
    if (v.crashed === "" && this.#bounce.info.deliverable(v)) this.#bounce.deliverEvent(v);
    if (v.crashed === "") {
      const stepping = cpu.stepping();
      const { kernelMode } = v;
      const code = this.machine.run(cpu.x, stepping ? 1 : budget);
      if (code === X86_EXIT_PLATFORM && this.#privileged.exit === EXIT_HYPERCALL) {
        exit.code = ExitCode.hypercall;
        exit.nr = cpu.hi(RAX) === 0 ? cpu.lo(RAX) : -1;
        return cpu.retired();
      }
      if (code === X86_EXIT_EXCEPTION) this.#exception(v, cpu.x);
      // An instruction that entered the kernel has cleared TF.
      else if (stepping && v.crashed === "" && v.kernelMode === kernelMode) {
        this.host.charge(TRAP_COST);
        this.traps.injectStep(v);
      }
    }
    if (v.crashed === "") {
      exit.code = ExitCode.budget;
      return cpu.retired();
    }
    exit.code = ExitCode.crash;
    exit.reason = `${v.crashed}\n${cpu.describe()}`;
    return cpu.retired();
  }

  /** An exception that the CPU reports: repaired here, or bounced to the guest. */
  #exception(v: PvVcpu, x: X86Vcpu): void {
    const vector = x.exceptionVector;
    const error = x.exceptionError ?? NO_ERROR;
    if (vector === VECTOR_PF) {
      const lo = x.faultAddressLo >>> 0;
      const hi = x.faultAddressHi >>> 0;
      if (this.#emulates(v, error) && this.#emulator.emulate(v, lo, hi)) {
        this.host.charge(EMULATION_COST);
        return;
      }
      this.host.charge(TRAP_COST);
      // Xen's own range is mapped, though not for guests.
      this.traps.injectPageFault(v, guestAddress(hi) ? error : error | PF_PRESENT, lo, hi);
      return;
    }
    this.host.charge(TRAP_COST);
    if (vector === VECTOR_UD && this.#forcedCpuid(v)) return;
    this.traps.inject(v, vector, error);
  }

  /** May this page fault be a write to a page table that is to be emulated? */
  #emulates(v: PvVcpu, error: number): boolean {
    const write = (error & (PF_PRESENT | PF_WRITE | PF_RESERVED | PF_FETCH)) === (PF_PRESENT | PF_WRITE);
    return write && v.kernelMode && (v.vcpu.domain.vmAssist & WRITABLE_PAGETABLES) !== 0;
  }

  /** The forced-emulation prefix before cpuid. */
  #forcedCpuid(v: PvVcpu): boolean {
    const { cpu } = v;
    if (!this.memory.copyFrom(v.root, cpu.ripLo(), cpu.ripHi(), this.#prefix, this.#prefix.length)) return false;
    if (FORCED_CPUID.some((byte, i) => this.#prefix[i] !== byte)) return false;
    this.#privileged.cpuid(v);
    this.traps.advance(v, FORCED_CPUID.length);
    return true;
  }

  #system(x: X86Vcpu, operation: SystemOperation): number {
    const v = this.#byCpu.get(x)!;
    this.#privileged.exit = 0;
    const answer = this.#privileged.system(v, operation);
    if (!this.#stop) return answer;
    if (answer === SYSTEM_NEXT) return SYSTEM_EXIT;
    return answer === SYSTEM_JUMP ? SYSTEM_JUMP_EXIT : answer;
  }

  requestExit(): void {
    this.#stop = true;
  }

  loadArguments(vcpu: Vcpu, into: Uint32Array): void {
    const { cpu } = this.stateOf(vcpu);
    ARGUMENTS.forEach((register, i) => {
      into[2 * i] = cpu.lo(register);
      into[2 * i + 1] = cpu.hi(register);
    });
  }

  finishHypercall(vcpu: Vcpu, result: number): void {
    this.stateOf(vcpu).cpu.set(RAX, result >>> 0, Math.floor(result / 0x1_0000_0000) >>> 0);
  }

  continueHypercall(vcpu: Vcpu, nr: number, args: Uint32Array): void {
    const { cpu } = this.stateOf(vcpu);
    // Back onto the syscall instruction, which is two bytes.
    const lo = cpu.ripLo() - 2;
    cpu.setRip(lo >>> 0, lo < 0 ? (cpu.ripHi() - 1) >>> 0 : cpu.ripHi());
    cpu.set(RAX, nr, 0);
    ARGUMENTS.forEach((register, i) => {
      cpu.set(register, args[2 * i]!, args[2 * i + 1]!);
    });
  }

  /** Never called: no access of a PV domain leaves as I/O. */
  finishIo(): void {}

  eventsDeliverable(vcpu: Vcpu): boolean {
    return this.#bounce.info.deliverable(this.stateOf(vcpu));
  }

  copyFromGuest(vcpu: Vcpu, lo: number, hi: number, into: Uint8Array, length: number): boolean {
    return this.memory.copyFrom(this.stateOf(vcpu).kernelRoot, lo, hi, into, length);
  }

  copyToGuest(vcpu: Vcpu, lo: number, hi: number, from: Uint8Array, length: number): boolean {
    return this.memory.copyTo(this.stateOf(vcpu).kernelRoot, lo, hi, from, length);
  }

  gfnToMfn(domain: Domain, gfn: number): number {
    return this.host.frames.owns(domain.id, gfn) ? gfn : -1;
  }

  mapGrant(vcpu: Vcpu, lo: number, hi: number, mfn: number, flags: number): number {
    return mapGrant(this.stateOf(vcpu), this.memory, lo, hi, mfn, flags);
  }

  unmapGrant(vcpu: Vcpu, lo: number, hi: number, mfn: number, flags: number, newLo: number, newHi: number): number {
    const status = unmapGrant(this.stateOf(vcpu), this.memory, lo, hi, mfn, flags, newLo, newHi);
    // The references go back after this: no TLB may have the frame then.
    this.machine.engine.flushFrame(mfn);
    return status;
  }

  /** A PV guest has no physmap (Xen: xatp_permission_check). */
  setPhysmap(): number {
    return -ERRNO.EACCES;
  }

  releaseFrame(domain: Domain, _gfn: number, mfn: number): boolean {
    if (this.tables.isPinned(mfn)) this.tables.unpin(mfn, domain.id);
    this.host.frames.setGfn(mfn, INVALID_GFN);
    return true;
  }

  acquireFrame(_domain: Domain, gfn: number, mfn: number): void {
    this.host.frames.setGfn(mfn, gfn);
  }

  describe(vcpu: Vcpu): string {
    const v = this.stateOf(vcpu);
    return `${v.kernelMode ? "kernel" : "user"} mode, root ${v.root}\n${v.cpu.describe()}`;
  }

  features(domain: Domain, submap: number): number {
    if (submap !== 0) return 0;
    const pae = (domain.vmAssist & (1 << VMASST_TYPE.pae_extended_cr3)) !== 0;
    return FEATURES | (pae ? 1 << xen.XENFEAT.pae_pgdir_above_4gb : 0);
  }

  virtStart(): { readonly lo: number; readonly hi: number } {
    return xen.x86_64.HYPERVISOR_VIRT_START;
  }

  #descriptorsUnmapped(domid: number): void {
    for (const [domain, states] of this.#byDomain) if (domain.id === domid) for (const v of states) v.releaseLdt();
  }
}

function setWide(cpu: X86Cpu | PvVcpu["cpu"], register: number, value: bigint): void {
  cpu.set(register, Number(value & 0xffffffffn), Number(value >> 32n));
}
