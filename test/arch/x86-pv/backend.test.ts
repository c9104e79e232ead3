/**
 * The backend on the software CPU: a few bytes of machine code, entered as a guest would be. A syscall of the kernel ends each run,
 * with its number in eax telling which path was taken.
 */
import {
  type ArchHost,
  createExit,
  createHooks,
  Domain,
  type DomainImage,
  ExitCode,
  Frames,
  FrameType,
  Vcpu,
  xen,
} from "hookvisor";
import { describe, expect, it } from "vitest";
import { PV_ABI, PvBackend } from "../../../arch/x86-pv/backend.ts";
import { CS, GS, RAX, RBX, RCX, RDX, RSI, RSP } from "../../../arch/x86-pv/cpu.ts";
import { setTrap } from "../../../arch/x86-pv/hypercalls.ts";
import { setUserRoot } from "../../../arch/x86-pv/mm/roots.ts";
import { makeElf } from "./make-elf.ts";

const PAGES = 1100;

/** mov eax, n; syscall. */
const call = (n: number): number[] => [0xb8, n & 255, (n >> 8) & 255, 0, 0, 0x0f, 0x05];

/** A domain whose code is `code[i]` at address i * 0x100; entry at 0. */
function domain(...code: readonly (readonly number[])[]) {
  const frames = new Frames(PAGES + 40);
  let charged = 0;
  const host = {
    frames,
    hooks: createHooks(),
    xenVersion: { major: 4, minor: 17, extra: "" },
    now: () => 0,
    timeOf: (_: Vcpu, retired: number) => 1000 + retired,
    charge: (n: number) => {
      charged += n;
    },
    crash: () => {},
    domain: () => undefined,
  } as unknown as ArchHost;
  const backend = new PvBackend(host);
  const owner = new Domain({ id: 1, uuid: "", type: "pv" }, "test", backend, PV_ABI);
  owner.grants = { grantToBackend: () => {} } as unknown as Domain["grants"];
  const [shared] = frames.allocate(1, 1);
  frames.getType(shared!, FrameType.writable);
  owner.sharedInfo = shared!;
  const vcpu = new Vcpu(owner, 0, 0, [0]);
  vcpu.infoAddress = shared! * 4096;
  owner.vcpus.push(vcpu);
  const bytes = new Uint8Array(4096);
  for (const [i, part] of code.entries()) bytes.set(part, i * 0x100);
  const kernel = makeElf({ loads: [{ physical: 0n, bytes }], entry: 0n });
  const image: DomainImage = {
    kernel,
    kernelName: "k",
    ramdisk: null,
    commandLine: "",
    memoryFrames: PAGES,
    vcpus: 1,
    storePort: 1,
    consolePort: 2,
  };
  backend.createVcpu(vcpu);
  backend.buildDomain(owner, image);
  const v = backend.stateOf(vcpu);
  const exit = createExit();
  /** Runs to the next exit that is not the end of a stretch; answers its kind and number. */
  const run = (budget = 10_000): string => {
    for (let i = 0; i < 100; i++) {
      const retired = backend.run(vcpu, budget, exit);
      expect(retired).toBeLessThanOrEqual(budget);
      if (exit.code === ExitCode.hypercall) return `call ${exit.nr}`;
      if (exit.code === ExitCode.crash) return exit.reason.split("\n")[0]!;
    }
    return "nothing";
  };
  return { backend, owner, vcpu, v, cpu: v.cpu, frames, run, exit, charged: () => charged };
}

/** Lets user mode run at `rip` in the kernel's own address space. */
function enterUser(d: ReturnType<typeof domain>, rip: number): void {
  expect(setUserRoot(d.v, d.v.kernelRoot, false)).toBe(0);
  d.v.setMode(false);
  d.cpu.setRip(rip, 0);
}

describe("a PV vCPU on the software CPU", () => {
  it("starts as Xen starts it: rsi at start_info, the first syscall is a hypercall, its answer goes to rax", () => {
    const d = domain([...call(17), 0x48, 0x89, 0xc3, ...call(18)]); // mov rbx, rax
    expect(d.cpu.selector(CS)).toBe(xen.x86_64.FLAT_KERNEL_CS);
    const magic = new Uint8Array(14);
    expect(d.backend.copyFromGuest(d.vcpu, d.cpu.lo(RSI), d.cpu.hi(RSI), magic, 14)).toBe(true);
    expect(new TextDecoder().decode(magic)).toBe("xen-3.0-x86_64");
    expect(d.run()).toBe("call 17");
    expect(d.cpu.lo(RCX)).toBe(7);
    d.backend.finishHypercall(d.vcpu, -38);
    expect(d.run()).toBe("call 18");
    expect([d.cpu.lo(RBX), d.cpu.hi(RBX)]).toEqual([0xffffffda, 0xffffffff]);
    d.backend.destroyDomain(d.owner);
    d.frames.putType(d.owner.sharedInfo);
    d.frames.disown(1);
    expect(d.frames.ownedBy(1)).toBe(0);
  });

  it("makes a preempted hypercall again, with the arguments left for it", () => {
    const d = domain([...call(26), ...call(27)]);
    expect(d.run()).toBe("call 26");
    const args = new Uint32Array(12);
    args[2] = 0x80000005;
    d.backend.continueHypercall(d.vcpu, 26, args);
    expect(d.run()).toBe("call 26");
    const seen = new Uint32Array(12);
    d.backend.loadArguments(d.vcpu, seen);
    expect(seen).toEqual(args);
    d.backend.finishHypercall(d.vcpu, 0);
    expect(d.run()).toBe("call 27");
  });

  it("user mode: syscall to the callback, with the kernel's stack and GS; a fault has the U bit", () => {
    const d = domain(
      [],
      [0xb8, 0x34, 0x12, 0, 0, 0x0f, 0x05], // user: mov eax, 0x1234; syscall
      [0x48, 0x8b, 0x1c, 0x24, ...call(40)], // callback: mov rbx, [rsp]
      [0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0x70], // user: mov rax, [0x70000000]
      [0x48, 0x8b, 0x5c, 0x24, 0x10, ...call(41)], // handler: mov rbx, [rsp+16]
    );
    const stack = d.v.kernelSpLo;
    d.v.syscall.lo = 0x200;
    setTrap(d.v, 14, 0, 0xe033, 0x400, 0);
    d.cpu.setBase(GS, 0x11, 0);
    enterUser(d, 0x100);
    d.cpu.set(RSP, 0, 0);
    d.cpu.setBase(GS, 0x22, 0);
    expect(d.run()).toBe("call 40");
    expect([d.cpu.lo(RBX), d.v.kernelMode, d.cpu.baseLo(GS)]).toEqual([0x107, true, 0x11]);
    expect(d.cpu.lo(RSP)).toBe(stack - 56);
    enterUser(d, 0x300);
    expect(d.run()).toBe("call 41");
    expect([d.cpu.lo(RBX), d.v.cr2Lo]).toEqual([4, 0x70000000]);
  });

  it("an event is delivered at the next entry, once", () => {
    const d = domain(
      call(1),
      call(2), // the callback
    );
    d.v.event.lo = 0x100;
    const info = d.vcpu.infoAddress;
    d.frames.bytes[info] = 1;
    expect(d.backend.eventsDeliverable(d.vcpu)).toBe(false);
    expect(d.run()).toBe("call 1");
    d.frames.bytes[info + 1] = 0;
    expect(d.backend.eventsDeliverable(d.vcpu)).toBe(true);
    expect(d.run()).toBe("call 2");
    expect(d.frames.bytes[info + 1]).toBe(1);
  });

  it("the forced-emulation prefix gives Xen's cpuid, in user mode too", () => {
    const code = [0xb8, 0, 0, 0, 0x40, 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2];
    const d = domain([...code, 0x89, 0xd6, ...call(3)]); // mov esi, edx
    expect(d.run()).toBe("call 3");
    expect([d.cpu.lo(RBX), d.cpu.lo(RSI)]).toEqual([xen.XEN_CPUID_SIGNATURE_EBX, xen.XEN_CPUID_SIGNATURE_EDX]);
  });

  it("after fpu_taskswitch the first floating-point instruction is #NM, once", () => {
    // movaps xmm1, xmm0; call; the handler: a call
    const d = domain([0x0f, 0x28, 0xc8, ...call(12)], call(11));
    setTrap(d.v, 7, 0, 0xe033, 0x100, 0);
    d.v.setTaskSwitched(true);
    expect(d.run()).toBe("call 11");
    expect(d.v.taskSwitched).toBe(false);
    d.cpu.setRip(0, 0);
    expect(d.run()).toBe("call 12");
  });

  it("a write to a page table faults, or is emulated with the assist", () => {
    // mov [rdx], rax; then a call; the handler makes another
    const d = domain([0x48, 0x89, 0x02, ...call(4)], call(5));
    setTrap(d.v, 14, 0, 0xe033, 0x100, 0);
    const l1 = d.backend.memory.l1TableAt(d.v.kernelRoot, 0x3ff000, 0);
    const page = d.frames.gfnOf[l1]! * 4096;
    const entry = d.backend.tables.entryLo(l1, 511);
    d.cpu.set(RDX, page + 511 * 8, 0);
    d.cpu.set(RAX, 0, 0);
    expect(d.run()).toBe("call 5");
    expect(d.backend.tables.entryLo(l1, 511)).toBe(entry);
    d.owner.vmAssist = 1 << xen.VMASST_TYPE.writable_pagetables;
    d.cpu.setRip(0, 0);
    d.cpu.set(RAX, 0, 0);
    expect(d.run()).toBe("call 4");
    expect(d.backend.tables.entryLo(l1, 511)).toBe(0);
  });

  it("a page that becomes a table can no longer be written through an old translation", () => {
    // mov [rdx], rax; call; mov [rdx], rax; call
    const store = [0x48, 0x89, 0x02];
    const d = domain([...store, ...call(6), ...store, ...call(7)], call(8));
    setTrap(d.v, 14, 0, 0xe033, 0x100, 0);
    const address = 0x3f0000;
    d.cpu.set(RDX, address, 0);
    expect(d.run()).toBe("call 6");
    const l1 = d.backend.memory.l1TableAt(d.v.kernelRoot, address, 0);
    const index = (address >>> 12) & 511;
    const mfn = d.backend.tables.entryLo(l1, index) >>> 12;
    d.backend.memory.copyTo(d.v.kernelRoot, address, 0, new Uint8Array(8), 8);
    // The guest makes it read-only without a flush, and pins it.
    expect(d.backend.tables.modify(l1, index, ((mfn << 12) | 5) >>> 0, 0, false, 1, 1)).toBe(0);
    expect(d.backend.tables.pin(mfn, 2, 1)).toBe(0);
    d.cpu.set(RAX, 0xfff, 0);
    expect(d.run()).toBe("call 8");
    expect(d.backend.tables.entryLo(mfn, 0)).toBe(0);
  });

  it("the machine-to-physical table can be read", () => {
    // mov rbx, [rdx]
    const d = domain([0x48, 0x8b, 0x1a, ...call(9)]);
    const mfn = d.v.kernelRoot;
    d.cpu.set(RDX, mfn * 8, 0xffff8000);
    expect(d.run()).toBe("call 9");
    expect([d.cpu.lo(RBX), d.cpu.hi(RBX)]).toEqual([d.frames.gfnOf[mfn], 0]);
  });

  it("crashes say what happened: no handler, a stack that is not there", () => {
    expect(domain([0x0f, 0x0b]).run()).toBe("Exception #UD and the guest has no handler for it");
    expect(domain([0xf4]).run()).toMatch(/#GP with error code 0x0 and the guest has no handler/);
    const d = domain([0x0f, 0x0b]);
    setTrap(d.v, 6, 0, 0xe033, 0x100, 0);
    d.cpu.set(RSP, 0, 0x7000);
    expect(d.run()).toMatch(/kernel stack at 0x6fffffffffc0 cannot be written|kernel stack at/);
  });

  it("slices of any length reach the same state", () => {
    // mov ecx, 200; loop: add rax, rcx; rdtsc-free; dec ecx; jnz loop; call
    const code = [0xb9, 200, 0, 0, 0, 0x48, 0x01, 0xc8, 0xff, 0xc9, 0x75, 0xf9, 0x48, 0x89, 0xc3, ...call(10)];
    const states = [1, 2, 3, 7, 100_000].map((budget) => {
      const d = domain(code);
      let retired = 0;
      for (let i = 0; i < 5000; i++) {
        retired += d.backend.run(d.vcpu, budget, d.exit);
        if (d.exit.code === ExitCode.hypercall) break;
      }
      return [retired, d.cpu.lo(RBX), d.cpu.ripLo()];
    });
    for (const state of states) expect(state).toEqual([604, 20100, 22]);
  });

  it("user mode: TF is #DB with DR6.BS after each instruction, the first behind the popf that sets it; int1 is #DB without", () => {
    const handler = [0x48, 0x8b, 0x5c, 0x24, 0x10, ...call(51)]; // mov rbx, [rsp+16]
    const d = domain(
      [],
      [0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0x90, 0xf1], // pushf; or dword [rsp], 0x100; popf; nop; nop; int1
      handler,
    );
    setTrap(d.v, 1, 0, 0xe033, 0x200, 0);
    enterUser(d, 0x100);
    d.cpu.set(RSP, d.v.kernelSpLo - 0x400, 0);
    expect(d.run()).toBe("call 51");
    expect([d.cpu.lo(RBX), d.v.debugLo[6], d.cpu.flags() & 0x100]).toEqual([0x10a, 0xffff4ff0, 0]);
    for (const [rip, flags, seen] of [
      [0x10a, 0x302, 0x10b],
      [0x10b, 0x202, 0x10c],
    ] as const) {
      d.v.debugLo[6] = 0xffff0ff0;
      d.v.setMode(false);
      d.cpu.setRip(rip, 0);
      d.cpu.setFlags(flags);
      expect(d.run()).toBe("call 51");
      expect([d.cpu.lo(RBX), d.v.debugLo[6]]).toEqual([seen, rip === 0x10a ? 0xffff4ff0 : 0xffff0ff0]);
    }
  });

  it("a single-stepped syscall enters the kernel without #DB", () => {
    const d = domain([], [0x0f, 0x05], [...call(61)], [...call(62)]);
    d.v.syscall.lo = 0x200;
    setTrap(d.v, 1, 0, 0xe033, 0x300, 0);
    enterUser(d, 0x100);
    d.cpu.setFlags(0x302);
    expect(d.run()).toBe("call 61");
  });

  it("a return to 32-bit user code is #UD at its first instruction", () => {
    const d = domain([], [0x90], [0x48, 0x8b, 0x5c, 0x24, 0x10, 0x8b, 0x54, 0x24, 0x18, ...call(71)]);
    setTrap(d.v, 6, 0, 0xe033, 0x200, 0);
    expect(setUserRoot(d.v, d.v.kernelRoot, false)).toBe(0);
    const at = d.v.kernelSpLo - 0x200;
    const frame = new BigUint64Array([
      0n,
      0n,
      0n,
      0n,
      0x100n,
      BigInt(xen.x86_64.FLAT_RING3.CS32),
      0x202n,
      0x500n,
      0xe02bn,
    ]);
    expect(d.backend.copyToGuest(d.vcpu, at, 0, new Uint8Array(frame.buffer), frame.byteLength)).toBe(true);
    d.cpu.set(RSP, at, 0);
    expect(d.backend.traps.iret(d.v)).toBe(true);
    expect(d.run()).toBe("call 71");
    expect([d.cpu.lo(RBX), d.cpu.lo(RDX), d.v.kernelMode]).toEqual([0x100, xen.x86_64.FLAT_RING3.CS32, true]);
  });
});
