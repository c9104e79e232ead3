/**
 * The toy port: an ArchBackend with everything that x86 is not (image.ts: TOY_ABI). It is the smallest port that has real guests, and
 * keeps core honest about page size, word size and byte order.
 *
 * A domain is translated: its memory is at guest-physical 0, its numbers of frames in interfaces (gfns) are guest-physical. At the
 * start vCPU 0 finds in its registers: r1 shared info, r2 XenStore ring, r3 console ring, r4 and r5 their ports, r6 the command line,
 * r7 the end of memory. The rings and the command line are the last frames of its memory, shared info lies HOLE bytes behind it.
 */
import {
  type ArchBackend,
  type ArchHost,
  type BuildResult,
  type Domain,
  type DomainImage,
  type Exit,
  FRAME_SIZE,
  type GuestAbi,
  ImageError,
  INVALID_GFN,
  type Vcpu,
  xen,
} from "hookvisor";
import { CONTEXT_WORDS, ToyCpu } from "./cpu.ts";
import { decodeImage, TOY_ABI } from "./image.ts";
import { type Slot, Space } from "./space.ts";

const { ERRNO, GNTMAP, GNTST } = xen;

/** Frames of a guest page. */
const PAGE_FRAMES = 2 ** TOY_ABI.pageShift / FRAME_SIZE;
/** Frames between the end of memory and shared info. */
const HOLE = 16;

export class ToyArch implements ArchBackend {
  readonly capabilities = "toy-1.0";
  readonly #host: ArchHost;
  readonly #spaces = new Map<Domain, Space>();
  readonly #cpus = new Map<Vcpu, ToyCpu>();
  readonly #context = new Uint8Array(4 * CONTEXT_WORDS);

  constructor(host: ArchHost) {
    this.#host = host;
  }

  /** A domain's address space; an empty one for a domain that is gone. */
  #space(domain: Domain): Space {
    return this.#spaces.get(domain) ?? new Space(this.#host.frames);
  }
  #cpu(vcpu: Vcpu): ToyCpu {
    const cpu = this.#cpus.get(vcpu);
    if (cpu === undefined) throw new Error(`${vcpu} is no toy`);
    return cpu;
  }

  identify(image: Uint8Array, name: string): GuestAbi {
    decodeImage(image, name);
    return TOY_ABI;
  }

  createVcpu(vcpu: Vcpu): void {
    const { domain } = vcpu;
    if (!this.#spaces.has(domain)) this.#spaces.set(domain, new Space(this.#host.frames));
    this.#cpus.set(vcpu, new ToyCpu(vcpu, this.#space(domain), this.#host));
  }

  buildDomain(domain: Domain, image: DomainImage): BuildResult {
    const { frames } = this.#host;
    const { load, entry, program } = decodeImage(image.kernel, image.kernelName);
    const end = image.memoryFrames;
    const [store, console_, command] = [end - 1, end - 2, end - 3];
    if (load + program.length > command * FRAME_SIZE)
      throw new ImageError(
        `${image.kernelName}: the program ends at 0x${(load + program.length).toString(16)}, and 0x${(command * FRAME_SIZE).toString(16)} bytes of memory are for it.`,
      );
    for (let gfn = 0; gfn < end; gfn += PAGE_FRAMES) {
      const first = frames.allocateContiguous(domain.id, PAGE_FRAMES, PAGE_FRAMES);
      for (let i = 0; i < PAGE_FRAMES; i++) this.#place(domain, gfn + i, first + i);
    }
    this.#place(domain, end + HOLE, domain.sharedInfo);
    const space = this.#space(domain);
    space.write(load, program, program.length);
    const line = new TextEncoder().encode(image.commandLine).subarray(0, FRAME_SIZE - 1);
    space.write(command * FRAME_SIZE, line, line.length);
    domain.grants.grantToBackend(xen.GNTTAB_RESERVED_CONSOLE, console_);
    domain.grants.grantToBackend(xen.GNTTAB_RESERVED_XENSTORE, store);
    const boot = this.#cpu(domain.vcpus[0]!);
    boot.pc = entry;
    const addresses = [(end + HOLE) * FRAME_SIZE, store * FRAME_SIZE, console_ * FRAME_SIZE];
    boot.registers.set([...addresses, image.storePort, image.consolePort, command * FRAME_SIZE, end * FRAME_SIZE], 1);
    return { storeMfn: store, consoleMfn: console_ };
  }

  destroyDomain(domain: Domain): void {
    this.#spaces.delete(domain);
    for (const vcpu of domain.vcpus) this.#cpus.delete(vcpu);
  }

  initialiseVcpu(vcpu: Vcpu, caller: Vcpu, lo: number, hi: number): number {
    if (!this.copyFromGuest(caller, lo, hi, this.#context, this.#context.length)) return -ERRNO.EFAULT;
    this.#cpu(vcpu).load(new DataView(this.#context.buffer));
    return 0;
  }

  run(vcpu: Vcpu, budget: number, exit: Exit): number {
    return this.#cpu(vcpu).run(budget, exit);
  }
  requestExit(vcpu: Vcpu): void {
    this.#cpu(vcpu).stop = true;
  }
  eventsDeliverable(vcpu: Vcpu): boolean {
    return this.#cpu(vcpu).deliverable;
  }

  loadArguments(vcpu: Vcpu, into: Uint32Array): void {
    const { registers } = this.#cpu(vcpu);
    for (let i = 0; i < 6; i++) {
      into[2 * i] = registers[1 + i]!;
      into[2 * i + 1] = 0;
    }
  }
  finishHypercall(vcpu: Vcpu, result: number): void {
    this.#cpu(vcpu).registers[0] = result;
  }
  continueHypercall(vcpu: Vcpu, nr: number, args: Uint32Array): void {
    const cpu = this.#cpu(vcpu);
    cpu.pc = (cpu.pc - 4) >>> 0;
    cpu.registers[0] = nr;
    for (let i = 0; i < 6; i++) cpu.registers[1 + i] = args[2 * i]!;
  }
  finishIo(vcpu: Vcpu, lo: number): void {
    const cpu = this.#cpu(vcpu);
    if (cpu.ioRegister >= 0) cpu.registers[cpu.ioRegister] = lo;
  }

  copyFromGuest(vcpu: Vcpu, lo: number, hi: number, into: Uint8Array, length: number): boolean {
    return hi === 0 && this.#space(vcpu.domain).read(lo, into, length);
  }
  copyToGuest(vcpu: Vcpu, lo: number, hi: number, from: Uint8Array, length: number): boolean {
    return hi === 0 && this.#space(vcpu.domain).write(lo, from, length);
  }

  gfnToMfn(domain: Domain, gfn: number): number {
    const slot = this.#spaces.get(domain)?.slots.get(gfn);
    return slot === undefined || slot.granted ? -1 : slot.mfn;
  }

  /** A grant is mapped where nothing is. */
  mapGrant(vcpu: Vcpu, lo: number, hi: number, mfn: number, flags: number): number {
    const { slots } = this.#space(vcpu.domain);
    const gfn = lo / FRAME_SIZE;
    if (hi !== 0 || !Number.isInteger(gfn) || (flags & GNTMAP.contains_pte) !== 0 || slots.has(gfn))
      return GNTST.general_error;
    slots.set(gfn, { mfn, writable: (flags & GNTMAP.readonly) === 0, granted: true });
    return GNTST.okay;
  }
  /** There are no page-table entries to replace one by. */
  unmapGrant(vcpu: Vcpu, lo: number, hi: number, mfn: number, _flags: number, newLo: number, newHi: number): number {
    const { slots } = this.#space(vcpu.domain);
    const gfn = lo / FRAME_SIZE;
    const slot = slots.get(gfn);
    if (hi !== 0 || newLo !== 0 || newHi !== 0 || slot?.mfn !== mfn || !slot.granted) return GNTST.general_error;
    slots.delete(gfn);
    return GNTST.okay;
  }

  setPhysmap(domain: Domain, gfn: number, mfn: number): number {
    if (gfn >= 2 ** 20) return -ERRNO.EINVAL;
    const { slots } = this.#space(domain);
    if (slots.get(gfn)?.granted) return -ERRNO.EBUSY;
    if (mfn >= 0) this.#place(domain, gfn, mfn);
    else slots.delete(gfn);
    return 0;
  }
  releaseFrame(domain: Domain, gfn: number, mfn: number): boolean {
    const { slots } = this.#space(domain);
    if (slots.get(gfn)?.mfn !== mfn) return false;
    slots.delete(gfn);
    return true;
  }
  acquireFrame(domain: Domain, gfn: number, mfn: number): void {
    if (gfn < 2 ** 20) this.#place(domain, gfn, mfn);
  }

  /** Puts a frame into the map. Memory that was there is given back, as it would be lost for ever. */
  #place(domain: Domain, gfn: number, mfn: number): void {
    const { frames } = this.#host;
    const { slots } = this.#space(domain);
    const before = slots.get(gfn);
    slots.set(gfn, { mfn, writable: true, granted: false });
    frames.setGfn(mfn, gfn);
    if (before !== undefined && before.mfn !== mfn && this.#isMemory(domain, before)) {
      frames.setGfn(before.mfn, INVALID_GFN);
      frames.dropAllocation(before.mfn);
    }
  }

  #isMemory(domain: Domain, { mfn, granted }: Slot): boolean {
    return !granted && mfn !== domain.sharedInfo && !domain.grants.isGrantFrame(mfn);
  }

  describe(vcpu: Vcpu): string {
    return this.#cpu(vcpu).toString();
  }
}
