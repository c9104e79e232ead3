/**
 * The arch backend for RISC-V domains: puts the parts together and runs harts.
 *
 * A run ends for a hypercall, an SBI call (which is served as hypercall arch_0, so that core alone turns instructions into time), an
 * access to a device, a wfi. Xen's upcall is the local interrupt IRQ_LOCAL, whose level is "an event is pending and not masked", which
 * is looked at whenever a hart is entered and whenever it is about to take it.
 *
 * Invariants: no frame changes type, owner or is freed before the engine's TLBs forget it (Frames.onRetype); every write from outside
 * reaches the translation cache (Frames.onWrite); nothing throws because of a guest; how runs are sliced changes nothing.
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
  type HypercallCall,
  ImageError,
  type PlacedDevice,
  type Vcpu,
  xen,
} from "hookvisor";
import {
  HART_BUDGET,
  HART_ECALL,
  HART_MMIO,
  HART_PAUSE,
  HART_WFI,
  IRQ_EXTERNAL,
  IRQ_LOCAL,
  type RiscvHart,
  type RiscvMachine,
} from "./cpu.ts";
import { makeDeviceTree, TIMEBASE } from "./device-tree.ts";
import { CSR_SIE } from "./lift-system.ts";
import { parseImage, place, placeTree, RAM_BASE } from "./loader.ts";
import { createRiscvMachine } from "./machine.ts";
import { callsXen, Sbi } from "./sbi.ts";
import { CONSOLE_GFN, HartState, RiscvDomain, RiscvVcpu, STORE_GFN } from "./world.ts";
import { FEATURES, RISCV_ABI, SBI_HYPERCALL } from "./xen.ts";

const { ERRNO } = xen;

const A0 = 10;
const A6 = 16;
/** a0 to a5. */
const ARGUMENTS = 6;
const FRAME = 4096;
/** Nanoseconds of a tick of the time CSR. */
const TICK = 1e9 / TIMEBASE;

/** Options of the backend. */
export interface RiscvOptions {
  /** Which tier runs guests: the fast one, or the readable oracle of the tests. */
  readonly tier?: "interpreter" | "oracle";
}

export class RiscvBackend implements ArchBackend {
  readonly host: ArchHost;
  readonly machine: RiscvMachine;
  readonly capabilities = "xen-3.0-riscv64 ";
  /** No RISC-V kernel has drivers for these: unmodified ones find virtio's. */
  readonly substitutes = Object.freeze({ vbd: "virtio-blk", vif: "virtio-net" });
  readonly #sbi: Sbi;
  readonly #states = new Map<Vcpu, RiscvVcpu>();
  readonly #domains = new Map<Domain, RiscvDomain>();
  /** The hart that is in its run. */
  #running: RiscvHart | null = null;
  readonly #word = new Uint32Array(2);

  constructor(host: ArchHost, options: RiscvOptions = {}) {
    const { frames } = host;
    this.host = host;
    this.#sbi = new Sbi(host);
    this.machine = createRiscvMachine({
      memory: frames.memory,
      frames: frames.count,
      time: (hart) => this.#time(hart),
      ...(options.tier === undefined ? {} : { tier: options.tier }),
    });
    const { engine } = this.machine;
    frames.onRetype((mfn) => engine.flushFrame(mfn));
    frames.onWrite((mfn, from, to) => engine.wroteFrame(mfn, from, to));
  }

  /** The time CSR, in ticks. */
  #time(hart: RiscvHart): number {
    const v = hart.owner as RiscvVcpu;
    const now = this.#running === null ? this.host.now() : this.host.timeOf(v.vcpu, hart.retiredNow - v.base);
    return Math.floor(now / TICK);
  }

  #stateOf(vcpu: Vcpu): RiscvVcpu {
    const v = this.#states.get(vcpu);
    if (v === undefined) throw new Error(`${vcpu} is no vCPU of a RISC-V domain`);
    return v;
  }

  #worldOf(domain: Domain): RiscvDomain {
    const world = this.#domains.get(domain);
    if (world === undefined) throw new Error(`${domain} is no RISC-V domain`);
    return world;
  }

  identify(image: Uint8Array, name: string): GuestAbi {
    parseImage(image, name);
    return RISCV_ABI;
  }

  /** Throws ConfigError where the machine has no room for another. */
  createVcpu(vcpu: Vcpu): void {
    const { domain } = vcpu;
    const { left, most } = this.machine.engine.vcpuRoom;
    if (left === 0)
      throw new ConfigError(
        `Domain '${domain.name}' does not fit: the RISC-V domains of a machine have ${most} vCPUs at most, all together.`,
      );
    let world = this.#domains.get(domain);
    if (world === undefined) {
      world = new RiscvDomain(domain, this.machine, this.host.frames);
      this.#domains.set(domain, world);
    }
    const v = new RiscvVcpu(vcpu, world.guest.createHart(), world);
    world.vcpus.push(v);
    this.#states.set(vcpu, v);
  }

  buildDomain(domain: Domain, image: DomainImage): BuildResult {
    const { frames } = this.host;
    const world = this.#worldOf(domain);
    const kernel = parseImage(image.kernel, image.kernelName);
    world.memory = image.memoryFrames * FRAME;
    const placement = place(kernel, image.kernelName, world.memory, image.ramdisk?.length ?? 0);
    world.placement = placement;
    world.commandLine = image.commandLine;
    world.allowTables(world.memory);
    world.allowTables(2 * FRAME);
    for (const [i, mfn] of frames.allocate(domain.id, image.memoryFrames).entries())
      world.populate(RAM_BASE / FRAME + i, mfn);
    // The pages of console and XenStore are the domain's, beyond its memory.
    domain.maxFrames += 2;
    const [console = -1, store = -1] = frames.allocate(domain.id, 2);
    world.populate(CONSOLE_GFN, console);
    world.populate(STORE_GFN, store);
    world.populated();
    for (const { address, bytes } of kernel.segments) world.write(address, bytes);
    if (image.ramdisk !== null) world.write(placement.ramdiskStart, image.ramdisk);
    domain.grants.grantToBackend(0, CONSOLE_GFN);
    domain.grants.grantToBackend(1, STORE_GFN);
    world.vcpus[0]!.start(kernel.entry >>> 0, Math.floor(kernel.entry / 0x1_0000_0000), 0, 0);
    return { storeMfn: STORE_GFN, consoleMfn: CONSOLE_GFN };
  }

  /** As on QEMU's board `virt`: interrupt controller and serial port. */
  machineDevices(vcpus: number): readonly { readonly type: string; readonly spec: string }[] {
    return [
      { type: "plic", spec: `base=0xc000000,harts=${vcpus}` },
      { type: "uart16550", spec: "base=0x10000000,line=10,clock=3686400" },
    ];
  }

  devicesReady(domain: Domain, devices: readonly PlacedDevice[]): void {
    const world = this.#worldOf(domain);
    const { placement, memory, commandLine } = world;
    if (placement === null) return;
    for (const { type, id, regions } of devices)
      for (const { space, base, size } of regions)
        if (space === "mmio" && !world.addDevice(base, size))
          throw new ImageError(
            `Device ${type} ${id} of domain '${domain.name}' wants 0x${size.toString(16)} bytes at 0x${base.toString(16)}, where it cannot be.`,
          );
    const tree = makeDeviceTree({
      harts: domain.vcpus.length,
      memory,
      commandLine,
      ramdisk: { start: placement.ramdiskStart, end: placement.ramdiskEnd },
      devices,
      seed: randomBytes(this.host.seed, domain.id, 32),
      xenVersion: this.host.xenVersion,
    });
    const at = placeTree(placement, tree.length);
    world.write(at, tree);
    world.vcpus[0]!.hart.setX(A0 + 1, at >>> 0, Math.floor(at / 0x1_0000_0000));
  }

  destroyDomain(domain: Domain): void {
    const world = this.#domains.get(domain);
    if (world === undefined) return;
    this.#domains.delete(domain);
    for (const { vcpu } of world.vcpus) this.#states.delete(vcpu);
    world.destroy();
  }

  /** A hart is started by SBI's HSM (Xen on Arm has PSCI for it). */
  initialiseVcpu(): number {
    return -ERRNO.ENOSYS;
  }

  run(vcpu: Vcpu, budget: number, exit: Exit): number {
    const v = this.#stateOf(vcpu);
    const { hart } = v;
    v.base = hart.retiredNow;
    if (v.state === HartState.suspended) v.state = HartState.started;
    let left = budget;
    let code = HART_BUDGET;
    this.#running = hart;
    this.#stop = false;
    try {
      while (left > 0 && code === HART_BUDGET && !this.#stop) {
        code = hart.run(this.#upcall(v) ? 1 : left);
        left -= hart.spent;
      }
    } finally {
      this.#running = null;
    }
    this.#explain(v, code, exit);
    return budget - left;
  }

  /** requestExit was called during the present run. */
  #stop = false;

  /**
   * Sets the level of the upcall's interrupt. True: it is high, and the guest's next instruction may lower it by a store that nobody sees, so that the
   * hart is to be run by single instructions. As long as the guest has not enabled it the pin stays low within a run, which so need not be watched.
   */
  #upcall({ vcpu, hart }: RiscvVcpu): boolean {
    const { shared } = vcpu.domain;
    hart.readCsr(CSR_SIE, this.#word);
    const enabled = ((this.#word[0]! >>> IRQ_LOCAL) & 1) !== 0;
    const level = enabled && shared?.upcallPending(vcpu) === true && !shared.upcallMask(vcpu);
    hart.setPin(IRQ_LOCAL, level);
    return level;
  }

  #explain(v: RiscvVcpu, code: number, exit: Exit): void {
    const { hart } = v;
    switch (code) {
      case HART_ECALL:
        if (callsXen(v, code)) {
          exit.code = ExitCode.hypercall;
          // SBI's number in the dispatcher is no hypercall's.
          const nr = hart.xHi(A6) === 0 ? hart.xLo(A6) : -1;
          exit.nr = nr === SBI_HYPERCALL ? -1 : nr;
        } else if (this.#sbi.suspends(v)) {
          this.#sbi.suspended(v);
          exit.code = ExitCode.halt;
        } else {
          exit.code = ExitCode.hypercall;
          exit.nr = SBI_HYPERCALL;
        }
        return;
      case HART_MMIO:
        exit.code = ExitCode.io;
        exit.space = "mmio";
        exit.addressLo = hart.mmio.gpaLo;
        exit.addressHi = hart.mmio.gpaHi;
        exit.size = hart.mmio.size;
        exit.write = hart.mmio.write;
        exit.valueLo = hart.mmio.valueLo;
        exit.valueHi = hart.mmio.valueHi;
        return;
      case HART_WFI:
        exit.code = ExitCode.halt;
        return;
      case HART_PAUSE:
        exit.code = ExitCode.yield;
        return;
      default:
        exit.code = ExitCode.budget;
    }
  }

  /** Serves the SBI call that a vCPU makes. */
  sbi(call: HypercallCall): number {
    const v = this.#stateOf(call.vcpu);
    // A multicall of Xen's has no SBI calls in it.
    return callsXen(v, HART_ECALL) ? -ERRNO.ENOSYS : this.#sbi.call(v);
  }

  requestExit(): void {
    this.#stop = true;
    this.#running?.requestStop();
  }

  loadArguments(vcpu: Vcpu, into: Uint32Array): void {
    const { hart } = this.#stateOf(vcpu);
    for (let i = 0; i < ARGUMENTS; i++) {
      into[2 * i] = hart.xLo(A0 + i);
      into[2 * i + 1] = hart.xHi(A0 + i);
    }
  }

  finishHypercall(vcpu: Vcpu, result: number): void {
    this.#stateOf(vcpu).hart.setX(A0, result >>> 0, Math.floor(result / 0x1_0000_0000) >>> 0);
  }

  continueHypercall(vcpu: Vcpu, nr: number, args: Uint32Array): void {
    const { hart } = this.#stateOf(vcpu);
    // Back onto the ecall.
    const lo = hart.pcLo - 4;
    hart.setPc(lo >>> 0, lo < 0 ? (hart.pcHi - 1) >>> 0 : hart.pcHi);
    hart.setX(A6, nr, 0);
    for (let i = 0; i < ARGUMENTS; i++) hart.setX(A0 + i, args[2 * i]!, args[2 * i + 1]!);
  }

  finishIo(vcpu: Vcpu, lo: number, hi: number): void {
    this.#stateOf(vcpu).hart.finishMmio(lo, hi);
  }

  eventsDeliverable(vcpu: Vcpu): boolean {
    const v = this.#stateOf(vcpu);
    this.#upcall(v);
    return v.hart.interruptPending;
  }

  copyFromGuest(vcpu: Vcpu, lo: number, hi: number, into: Uint8Array, length: number): boolean {
    return this.#stateOf(vcpu).hart.read(lo, hi, into.subarray(0, length));
  }

  copyToGuest(vcpu: Vcpu, lo: number, hi: number, from: Uint8Array, length: number): boolean {
    return this.#stateOf(vcpu).hart.write(lo, hi, from.subarray(0, length));
  }

  gfnToMfn(domain: Domain, gfn: number): number {
    return this.#worldOf(domain).frameAt(gfn);
  }

  mapGrant(vcpu: Vcpu, lo: number, hi: number, mfn: number, flags: number): number {
    return this.#stateOf(vcpu).world.mapGrant(lo, hi, mfn, flags);
  }

  unmapGrant(vcpu: Vcpu, lo: number, hi: number, mfn: number, flags: number, newLo: number, newHi: number): number {
    return this.#stateOf(vcpu).world.unmapGrant(lo, hi, mfn, flags, newLo, newHi);
  }

  setPhysmap(domain: Domain, gfn: number, mfn: number): number {
    return this.#worldOf(domain).setPhysmap(gfn, mfn);
  }

  maximumGfn(domain: Domain): number {
    return this.#worldOf(domain).maximumGfn;
  }

  releaseFrame(domain: Domain, gfn: number, mfn: number): boolean {
    return this.#worldOf(domain).releaseFrame(gfn, mfn);
  }

  acquireFrame(domain: Domain, gfn: number, mfn: number): void {
    this.#worldOf(domain).acquireFrame(gfn, mfn);
  }

  /** The pin of the external interrupt, which is the PLIC's. */
  setPin(vcpu: Vcpu, pin: number, level: boolean): boolean {
    return pin === IRQ_EXTERNAL && this.#stateOf(vcpu).hart.setPin(pin, level);
  }

  describe(vcpu: Vcpu): string {
    const { hart, state } = this.#stateOf(vcpu);
    return `${state === HartState.stopped ? "stopped\n" : ""}${hart.describe()}`;
  }

  features(_domain: Domain, submap: number): number {
    return submap === 0 ? FEATURES : 0;
  }
}

/** Bytes that follow from the machine's seed and the domain (a generator of Marsaglia's: xorshift, 32 bits). */
function randomBytes(seed: number, domain: number, count: number): Uint8Array {
  let state = (Math.imul(seed, 0x9e37_79b1) ^ Math.imul(domain + 1, 0x85eb_ca6b)) | 1;
  return Uint8Array.from({ length: count }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 24;
  });
}
