/**
 * A hostile pair of PV kernels as a machine would run them, driven from here: random hypercalls about memory, and reads, writes and
 * fetches between them that fill the TLBs. After every few of them the machine is audited (audit.ts).
 *
 * Numbers come from a seed: a failure names it, and the same seed does the same again.
 */
import { type Domain, Hypervisor, type Vcpu, xen } from "hookvisor";
import type { PvBackend } from "../../../arch/x86-pv/backend.ts";
import type { X86Cpu } from "../../../arch/x86-pv/cpu-x86.ts";
import { TYPE_L1, TYPE_L4 } from "../../../arch/x86-pv/mm/pte.ts";
import { setKernelRoot } from "../../../arch/x86-pv/mm/roots.ts";
import x86Pv from "../../../arch/x86-pv/plugin.ts";
import { Hypercalls } from "../../../core/hypercall/dispatcher.ts";
import { NodeHost } from "../../../core/node/host-services.ts";
import roundRobin from "../../../plugins/scheduler-round-robin/plugin.ts";
import { audit } from "./audit.ts";
import { makeElf } from "./make-elf.ts";

const { __HYPERVISOR, DOMID, GNTTABOP, GTF, MMUEXT, VCPUOP, XENMEM } = xen;
const NONE = 0xffffffff;
/** A page of the kernel that hypercalls take their arguments from, at its virtual address. */
const BUFFER = 0x2000;

/** Random numbers from a seed (mulberry32). */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  /** 32 bits. */
  bits(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }
  below(n: number): number {
    return this.bits() % n;
  }
  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
  one(of: number): boolean {
    return this.below(of) === 0;
  }
}

/** A machine with the PV port and nothing else; the backend is that of its first domain. */
export async function pvMachine(memoryMiB: number, pcpus = 1): Promise<Hypervisor> {
  const hypervisor = new Hypervisor({
    plugins: [x86Pv, roundRobin].map((plugin) => ({ plugin, source: plugin.name })),
    services: new NodeHost(),
  });
  await hypervisor.boot({ memoryMiB, pcpus, scheduler: "round-robin" });
  return hypervisor;
}

/** A domain of this kernel, paused. */
export function pvDomain(hypervisor: Hypervisor, name: string, kernel: Uint8Array, vcpus = 1, memoryMiB = 5) {
  return hypervisor.createDomain({
    name,
    type: "pv",
    kernel,
    kernelName: name,
    ramdisk: null,
    extra: "",
    memoryMiB,
    vcpus,
    devices: [],
    schedulerParams: {},
  });
}

type Wide = number | readonly [lo: number, hi: number];

class Attack {
  readonly #hypervisor: Hypervisor;
  readonly #calls: Hypercalls;
  readonly #random: Random;
  readonly #domains: Domain[] = [];
  readonly #roots = new Map<Domain, number>();
  readonly #handles: number[] = [];
  readonly done: string[] = [];
  /** Operations that answered 0. */
  succeeded = 0;

  constructor(hypervisor: Hypervisor, seed: number) {
    this.#hypervisor = hypervisor;
    this.#calls = new Hypercalls(hypervisor.machine);
    this.#random = new Random(seed);
  }

  get backend(): PvBackend {
    return this.#domains[0]!.arch as PvBackend;
  }

  async begin(): Promise<void> {
    const kernel = makeElf({ loads: [{ physical: 0n, bytes: new Uint8Array(0x4000).fill(0x90) }], entry: 0n });
    for (const name of ["a", "b"]) {
      const domain = await pvDomain(this.#hypervisor, name, kernel, 2);
      this.#domains.push(domain);
      this.#roots.set(domain, this.backend.stateOf(domain.vcpus[0]!).kernelRoot);
      domain.grants.grow(1);
    }
  }

  async end(): Promise<void> {
    for (const domain of this.#domains) await this.#hypervisor.destroyDomain(domain);
  }

  /** The domain's frames that are worth trying, others' now and then. */
  #frame(domain: Domain): number {
    const { frames } = this.#hypervisor.machine;
    const r = this.#random;
    switch (r.below(24)) {
      case 0:
        return r.of([0, 1, frames.count - 1, frames.count, 0xfffff, 0x100000, 0xffffffff]);
      case 1: {
        const other = r.of(this.#domains);
        return this.#roots.get(other)! + r.below(12);
      }
      case 2:
        return domain.sharedInfo;
      case 3:
        return domain.grants.frameAt(0);
      default: {
        // Tables and the pages behind them: few, so that they meet again.
        const first = this.#roots.get(domain)!;
        return first - 6 + r.below(20);
      }
    }
  }

  /** A frame that nothing but its allocation holds, if there is one among the last. */
  #spare(domain: Domain): number {
    const { frames } = this.#hypervisor.machine;
    const from = this.#random.below(frames.count);
    for (let mfn = from; mfn < Math.min(from + 2000, frames.count); mfn++)
      if (frames.owns(domain.id, mfn) && frames.refs[mfn] === 1 && frames.typeCount[mfn] === 0) return mfn;
    return this.#frame(domain);
  }

  #entry(domain: Domain): [number, number] {
    const r = this.#random;
    const mfn = this.#frame(domain);
    let flags = r.of([0x67, 0x65, 0x63, 0x61, 0x1, 0x5, 0x7, 0x25, 0x0]);
    if (r.one(10)) flags ^= 1 << r.below(12);
    let hi = Math.floor(mfn / 0x100000) & 0xfffff;
    if (r.one(4)) hi |= 0x80000000;
    if (r.one(10)) hi |= 1 << r.of([20, 21, 30, 31, 12]);
    return [((mfn << 12) | flags) >>> 0, hi >>> 0];
  }

  /** Addresses of the kernel's mapping, and wild ones. */
  #address(): readonly [number, number] {
    const r = this.#random;
    if (r.one(12))
      return r.of([
        [0, 0xffff8000],
        [0xfffff000, 0xffff87ff],
        [0, 0x8000],
        [0xfffff000, 0xffffffff],
        [r.bits(), r.bits()],
      ] as const);
    const pages = this.#first() - 6 + r.below(24);
    return [pages * 4096 + (r.one(3) ? r.below(4096) : 0), 0];
  }

  /** The virtual page of the first page table. */
  #first(): number {
    const { frames } = this.#hypervisor.machine;
    return frames.gfnOf[this.#roots.get(this.#domains[0]!)!]!;
  }

  #put(domain: Domain, at: number, ...words: Wide[]): void {
    const bytes = new Uint8Array(words.length * 8);
    const view = new DataView(bytes.buffer);
    for (const [i, word] of words.entries()) {
      const [lo, hi] = typeof word === "number" ? [word, Math.floor(word / 2 ** 32)] : word;
      view.setUint32(8 * i, lo, true);
      view.setUint32(8 * i + 4, hi, true);
    }
    const [vcpu] = domain.vcpus;
    if (this.backend.copyToGuest(vcpu!, BUFFER + at, 0, bytes, bytes.length)) return;
    // The attack has unmapped its own buffer: the first address space comes back.
    setKernelRoot(this.backend.stateOf(vcpu!), this.#roots.get(domain)!, false);
    this.backend.copyToGuest(vcpu!, BUFFER + at, 0, bytes, bytes.length);
  }

  #call(vcpu: Vcpu, number: number, ...args: Wide[]): number {
    const { cpu } = this.backend.stateOf(vcpu);
    const registers = [7, 6, 2, 10, 8, 9];
    for (const [i, word] of args.entries()) {
      const [lo, hi] = typeof word === "number" ? [word, Math.floor(word / 2 ** 32)] : word;
      cpu.set(registers[i]!, lo >>> 0, hi >>> 0);
    }
    const result = this.#calls.dispatch(vcpu, number);
    this.#hypervisor.machine.takeCharge();
    this.done.push(`${vcpu} ${number}(${args.join(", ")}) = ${result}`);
    if (result === 0) this.succeeded++;
    return result;
  }

  step(): void {
    const r = this.#random;
    const domain = r.of(this.#domains);
    const vcpu = r.of(domain.vcpus);
    const v = this.backend.stateOf(vcpu);
    if (v.kernelRoot === 0 && (vcpu.id === 0 || r.one(2)) && setKernelRoot(v, this.#roots.get(domain)!, false) !== 0)
      return;
    switch (r.below(16)) {
      case 0:
      case 1:
      case 2: {
        const [lo, hi] = this.#entry(domain);
        const place = this.#frame(domain) * 4096 + r.below(r.one(4) ? 512 : 4) * 8 + r.of([0, 0, 0, 0, 1, 2, 3]);
        this.#put(domain, 0, place, [lo, hi]);
        this.#call(vcpu, __HYPERVISOR.mmu_update, BUFFER, 1, 0, r.one(30) ? DOMID.IO : DOMID.SELF);
        return;
      }
      case 3:
      case 4: {
        this.#call(vcpu, __HYPERVISOR.update_va_mapping, this.#address(), this.#entry(domain), r.of([0, 1, 2, 6]));
        return;
      }
      case 5:
      case 6:
      case 7: {
        const command = r.one(3) ? r.below(20) : r.of([0, 1, 2, 3, 4, 4, MMUEXT.NEW_BASEPTR, MMUEXT.NEW_USER_BASEPTR]);
        const second = command === MMUEXT.SET_LDT ? r.of([1, 512, 8192]) : this.#frame(domain);
        const first = command === MMUEXT.SET_LDT ? this.#address() : r.one(20) ? 0 : this.#frame(domain);
        this.#put(domain, 0, command, first, second);
        this.#call(vcpu, __HYPERVISOR.mmuext_op, BUFFER, 1, 0, DOMID.SELF);
        return;
      }
      case 8: {
        const mfns = [this.#frame(domain), this.#frame(domain)];
        this.#put(domain, 0, ...mfns);
        if (r.one(3))
          this.#call(
            vcpu,
            __HYPERVISOR.update_descriptor,
            this.#frame(domain) * 4096 + r.below(512) * 8,
            [0xffff, 0x00cffb00],
          );
        else this.#call(vcpu, __HYPERVISOR.set_gdt, BUFFER, r.of([0, 512, 1024]));
        return;
      }
      case 9:
      case 10:
        this.#touch(vcpu);
        return;
      case 11:
        if (r.one(2)) this.#copyTable(domain);
        else this.#retype(vcpu);
        return;
      case 12:
      case 13:
        this.#grants(domain, vcpu);
        return;
      case 14:
        this.#reservation(domain, vcpu);
        return;
      default:
        this.#areas(domain, vcpu);
    }
  }

  /** What running code does: TLBs fill, and pages get contents. */
  #touch(vcpu: Vcpu): void {
    const r = this.#random;
    const v = this.backend.stateOf(vcpu);
    const { x } = v.cpu as X86Cpu;
    if (v.kernelRoot === 0) return;
    x.mmu = v.userRoot !== 0 && r.one(3) ? 2 : 1;
    for (let i = 0; i < 8; i++) {
      const [lo, hi] = this.#address();
      const [entryLo, entryHi] = r.one(3) ? [0, 0] : this.#entry(vcpu.domain);
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setUint32(0, entryLo, true);
      new DataView(bytes.buffer).setUint32(4, entryHi, true);
      const way = r.below(3);
      if (way === 0) x.read(lo, hi, bytes);
      else if (way === 1) x.write((lo & ~7) >>> 0, hi, bytes);
      else {
        x.setRip(lo, hi);
        this.backend.machine.run(x, 1 + r.below(20));
      }
    }
    x.mmu = 1;
  }

  /** Writes to a page, takes its writable mapping away without a flush, and makes a page table of it. */
  #retype(vcpu: Vcpu): void {
    const r = this.#random;
    const { domain } = vcpu;
    const mfn = this.#frame(domain);
    const gfn = this.#hypervisor.machine.frames.gfnOf[mfn] ?? 0;
    const address = gfn * 4096;
    if (!this.#hypervisor.machine.frames.owns(domain.id, mfn) || address === BUFFER || gfn > 0xfffff) return;
    for (const other of domain.vcpus) {
      const v = this.backend.stateOf(other);
      if (v.kernelRoot === 0) continue;
      const { x } = v.cpu as X86Cpu;
      x.mmu = v.userRoot !== 0 && r.one(2) ? 2 : 1;
      x.write(address, 0, new Uint8Array(8));
      x.mmu = 1;
    }
    this.#call(vcpu, __HYPERVISOR.update_va_mapping, address, r.one(2) ? 0 : [((mfn << 12) | 0x65) >>> 0, 0], 0);
    this.#put(domain, 0, r.below(4), mfn, 0);
    this.#call(vcpu, __HYPERVISOR.mmuext_op, BUFFER, 1, 0, DOMID.SELF);
    if (r.one(2)) return;
    this.#put(domain, 0, MMUEXT.UNPIN_TABLE, mfn, 0);
    this.#call(vcpu, __HYPERVISOR.mmuext_op, BUFFER, 1, 0, DOMID.SELF);
    this.#call(vcpu, __HYPERVISOR.update_va_mapping, address, [((mfn << 12) | 0x67) >>> 0, 0], 0);
  }

  /** A table's contents in a page that is none, changed a little: fit to be pinned. */
  #copyTable(domain: Domain): void {
    const r = this.#random;
    const { frames } = this.#hypervisor.machine;
    const [from, to] = [this.#frame(domain), this.#frame(domain)];
    if (!frames.owns(domain.id, from) || !frames.owns(domain.id, to) || from === to) return;
    const table = frames.typeCount[to] !== 0 && frames.type[to]! >= TYPE_L1 && frames.type[to]! <= TYPE_L4 + 1;
    if (table || to === domain.sharedInfo || domain.grants.isGrantFrame(to)) return;
    if (r.one(4)) frames.page(to).fill(0);
    else frames.page(to).set(frames.page(from));
    for (let i = r.below(3); i > 0; i--) {
      const [lo, hi] = this.#entry(domain);
      const at = to * 4096 + r.below(512) * 8;
      frames.view.setUint32(at, lo, true);
      frames.view.setUint32(at + 4, hi, true);
    }
    frames.wrote(to, 0, 4096);
  }

  #grants(domain: Domain, vcpu: Vcpu): void {
    const r = this.#random;
    const { view } = this.#hypervisor.machine.frames;
    const ref = r.below(3) + 2;
    const other = r.of(this.#domains);
    const op = (command: number, ...words: Wide[]): number => {
      this.#put(domain, 0, ...words);
      return this.#call(vcpu, __HYPERVISOR.grant_table_op, command, BUFFER, 1);
    };
    const answer = (offset: number): number => {
      const bytes = new Uint8Array(4);
      this.backend.copyFromGuest(vcpu, BUFFER + offset, 0, bytes, 4);
      return new DataView(bytes.buffer).getUint32(0, true);
    };
    switch (r.below(7)) {
      case 0:
      case 1: {
        const at = domain.grants.frameAt(0) * 4096 + ref * 8;
        const flags = r.of([
          GTF.permit_access,
          GTF.permit_access,
          GTF.permit_access,
          GTF.permit_access | GTF.readonly,
          GTF.accept_transfer,
          GTF.accept_transfer,
          0,
          r.below(0x10000),
        ]);
        view.setUint16(at, flags, true);
        view.setUint16(at + 2, other.id, true);
        view.setUint32(at + 4, r.one(3) ? this.#spare(domain) : this.#frame(domain), true);
        return;
      }
      case 2:
      case 3: {
        const flags = r.of([2, 2, 2, 6, 1, 3, 7, 0x12, 0x16, 0x0a]);
        const host: Wide = (flags & 0x10) !== 0 ? this.#frame(domain) * 4096 + r.below(512) * 8 : this.#address();
        const [lo, hi] = typeof host === "number" ? [host >>> 0, Math.floor(host / 2 ** 32)] : host;
        op(GNTTABOP.map_grant_ref, [lo, hi], [flags, ref], [other.id, NONE], 0);
        if (answer(16) >>> 16 === 0 && answer(20) !== NONE) this.#handles.push(answer(20), lo, hi);
        return;
      }
      case 4: {
        const i = r.below(this.#handles.length / 3 + 1) * 3;
        const place: Wide = r.one(4) ? this.#address() : [this.#handles[i + 1] ?? 0, this.#handles[i + 2] ?? 0];
        const handle = this.#handles[i] ?? r.below(4);
        if (r.one(4)) op(GNTTABOP.unmap_and_replace, place, this.#address(), [handle, 0]);
        else op(GNTTABOP.unmap_grant_ref, place, r.one(3) ? this.#frame(domain) * 4096 : 0, [handle, 0]);
        return;
      }
      case 5: {
        const [from, to] = [r.one(2), r.one(2)];
        const end = (grant: boolean): Wide[] => [
          grant ? ref : this.#frame(domain),
          [(grant ? other.id : DOMID.SELF) | (r.of([0, 8, 4088, 4095]) << 16), 0],
        ];
        const length = r.of([0, 8, 16, 4096, 65535]);
        op(GNTTABOP.copy, ...end(from), ...end(to), [length | (((from ? 1 : 0) | (to ? 2 : 0)) << 16), 0]);
        return;
      }
      default:
        op(GNTTABOP.transfer, this.#spare(domain), [other.id, ref], 0);
    }
  }

  #reservation(domain: Domain, vcpu: Vcpu): void {
    const r = this.#random;
    const extents = r.one(2) ? [this.#spare(domain), this.#spare(domain)] : [this.#frame(domain), this.#frame(domain)];
    this.#put(domain, 0x100, ...extents);
    const self: Wide = [DOMID.SELF, 0];
    const count = 1 + r.below(2);
    switch (r.below(5)) {
      case 0:
        this.#put(domain, 0, BUFFER + 0x100, count, [0, 0], self);
        this.#call(vcpu, __HYPERVISOR.memory_op, XENMEM.decrease_reservation, BUFFER);
        return;
      case 1:
        this.#put(domain, 0, BUFFER + 0x100, count, [r.below(2), 0], self);
        this.#call(vcpu, __HYPERVISOR.memory_op, XENMEM.increase_reservation, BUFFER);
        return;
      case 2:
        this.#put(domain, 0, BUFFER + 0x100, count, [0, 0], self);
        this.#call(vcpu, __HYPERVISOR.memory_op, XENMEM.populate_physmap, BUFFER);
        return;
      default: {
        // in: start, count, order | flags, domid; out likewise; done
        const side: Wide[] = [BUFFER + 0x100, count, 0, self];
        this.#put(domain, 0, ...side, BUFFER + 0x180, count, 0, self, 0);
        this.#put(domain, 0x180, 5, 6);
        this.#call(vcpu, __HYPERVISOR.memory_op, XENMEM.exchange, BUFFER);
      }
    }
  }

  #areas(domain: Domain, vcpu: Vcpu): void {
    const r = this.#random;
    const [lo, hi] = this.#address();
    if (r.one(3)) {
      this.#put(domain, 0, this.#frame(domain), [r.of([0, 64, 4032, 4064, 5000]), 0]);
      this.#call(vcpu, __HYPERVISOR.vcpu_op, VCPUOP.register_vcpu_info, vcpu.id, BUFFER);
    } else if (r.one(2)) {
      this.#put(domain, 0, [lo, hi]);
      this.#call(vcpu, __HYPERVISOR.vcpu_op, VCPUOP.register_runstate_memory_area, r.below(2), BUFFER);
    } else if (vcpu.id === 0) {
      this.#call(vcpu, __HYPERVISOR.vcpu_op, VCPUOP.initialise, 1, this.#address());
    }
  }
}

/** One attack of `steps` operations, audited every `every` of them; throws at the first thing that is wrong. */
export async function attackMemory(
  hypervisor: Hypervisor,
  seed: number,
  steps: number,
  every: number,
): Promise<number> {
  const attack = new Attack(hypervisor, seed);
  await attack.begin();
  try {
    for (let i = 1; i <= steps; i++) {
      attack.step();
      if (i % every !== 0) continue;
      const wrong = audit(hypervisor.machine, attack.backend);
      if (wrong.length > 0)
        throw new Error(
          `seed ${seed}, step ${i}:\n${attack.done.slice(-every - 10).join("\n")}\n${wrong.slice(0, 8).join("\n")}`,
        );
    }
    return attack.succeeded;
  } finally {
    await attack.end();
  }
}
