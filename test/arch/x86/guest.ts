/**
 * A bare x86 guest for tests: code, scratch and read-only pages at the addresses that test/tools/x86-host uses, under real page
 * tables at user level, and a platform that refuses everything.
 */

import { MMU_USER } from "../../../arch/x86/paging.ts";
import { SYSTEM_FAULT, type SystemOperation, type X86Platform } from "../../../arch/x86/platform.ts";
import { RSP } from "../../../arch/x86/state.ts";
import { X86_EXIT_EXCEPTION, X86Machine, type X86Vcpu } from "../../../arch/x86/vcpu.ts";

export const CODE = 0x10000000;
export const SCRATCH = 0x20000000;
export const READONLY = 0x30000000;

/** Frame numbers. */
const CODE_FRAME = 16;
const SCRATCH_FRAME = 24; // and 26: not neighbours, so that crossing accesses are tested
const SCRATCH_FRAME_2 = 26;
const READONLY_FRAME = 28;
export const FRAMES = 64;

export interface Case {
  readonly code: Uint8Array;
  readonly gpr: BigUint64Array;
  readonly rflags: number;
  /** FXSAVE image, or null for the default. */
  readonly fx: Uint8Array | null;
  readonly scratch: Uint8Array;
}

export interface Outcome {
  gpr: BigUint64Array;
  rflags: number;
  /** Relative to the code's start. */
  rip: number;
  /** Exception vector; 3 (int3) is the normal end. */
  vector: number;
  error: number;
  /** Of a page fault. */
  address: bigint;
  fx: Uint8Array;
  scratch: Uint8Array;
}

/** Refuses every system instruction as user mode would: int3 is #BP, the rest #GP. */
export class UserPlatform implements X86Platform {
  system(vcpu: X86Vcpu, operation: SystemOperation): number {
    if (operation.kind === 36 && operation.register === 1) vcpu.raise(3);
    else vcpu.raise(13, 0);
    return SYSTEM_FAULT;
  }
}

export class BareGuest {
  readonly memory: WebAssembly.Memory;
  readonly machine: X86Machine;
  readonly vcpu: X86Vcpu;
  readonly physical: Uint8Array;

  constructor(tier: "interpreter" | "oracle" = "interpreter", platform: X86Platform = new UserPlatform()) {
    const pages = (FRAMES * 4096) / 65536;
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.physical = new Uint8Array(this.memory.buffer);
    this.machine = new X86Machine({
      memory: this.memory,
      frames: FRAMES,
      platform,
      tier,
      codeBytes: 8 << 20,
      vcpus: 1,
    });
    const view = new DataView(this.memory.buffer);
    const entry = (table: number, index: number, frame: number, flags: number) =>
      view.setBigUint64(table * 4096 + index * 8, (BigInt(frame) << 12n) | BigInt(flags), true);
    entry(1, 0, 2, 7);
    entry(2, 0, 3, 7);
    entry(3, CODE >>> 21, 4, 7);
    entry(3, SCRATCH >>> 21, 5, 7);
    entry(3, READONLY >>> 21, 6, 7);
    entry(4, 0, CODE_FRAME, 7);
    entry(5, 0, SCRATCH_FRAME, 7);
    entry(5, 1, SCRATCH_FRAME_2, 7);
    entry(6, 0, READONLY_FRAME, 5);
    for (let i = 0; i < 4096; i++) this.physical[READONLY_FRAME * 4096 + i] = i * 7;
    this.vcpu = this.machine.createVcpu();
    this.vcpu.mmu = MMU_USER;
    this.vcpu.setRoot(MMU_USER, 1);
    this.vcpu.setPaging(true);
  }

  /** Runs one case until its int3 or fault. */
  run(test: Case, slice = 1000): Outcome {
    const { machine, vcpu, physical } = this;
    const engine = machine.engine;
    physical.fill(0xcc, CODE_FRAME * 4096, CODE_FRAME * 4096 + 512);
    physical.set(test.code, CODE_FRAME * 4096);
    engine.wroteFrame(CODE_FRAME);
    physical.set(test.scratch.subarray(0, 4096), SCRATCH_FRAME * 4096);
    physical.set(test.scratch.subarray(4096), SCRATCH_FRAME_2 * 4096);
    for (let n = 0; n < 16; n++) {
      vcpu.set(n, Number(test.gpr[n]! & 0xffffffffn), Number(test.gpr[n]! >> 32n));
    }
    vcpu.flags = test.rflags;
    vcpu.setRip(CODE, 0);
    this.loadFx(test.fx);
    let exit = 0;
    for (let used = 0; exit === 0 && used < 1000; used += slice) exit = machine.run(vcpu, Math.min(slice, 1000 - used));
    const fault = exit === X86_EXIT_EXCEPTION;
    const vector = fault ? vcpu.exceptionVector : -1;
    const gpr = new BigUint64Array(16);
    for (let n = 0; n < 16; n++) gpr[n] = (BigInt(vcpu.hi(n)) << 32n) | BigInt(vcpu.lo(n));
    const scratch = new Uint8Array(8192);
    scratch.set(physical.subarray(SCRATCH_FRAME * 4096, SCRATCH_FRAME * 4096 + 4096));
    scratch.set(physical.subarray(SCRATCH_FRAME_2 * 4096, SCRATCH_FRAME_2 * 4096 + 4096), 4096);
    return {
      gpr,
      rflags: vcpu.flags,
      rip: vcpu.ripLo - CODE,
      vector,
      error: vcpu.exceptionError ?? 0,
      address: vector === 14 ? (BigInt(vcpu.faultAddressHi) << 32n) | BigInt(vcpu.faultAddressLo) : 0n,
      fx: this.saveFx(),
      scratch,
    };
  }

  protected loadFx(fx: Uint8Array | null): void {
    const image = new Uint8Array(512);
    if (fx !== null) image.set(fx);
    else {
      image[0] = 0x7f;
      image[1] = 3;
      image[24] = 0x80;
      image[25] = 0x1f;
    }
    this.vcpu.fxrstor(new DataView(image.buffer));
  }
  protected saveFx(): Uint8Array {
    const fx = new Uint8Array(512);
    this.vcpu.fxsave(new DataView(fx.buffer));
    return fx;
  }
}

/** A case of plain registers: all zero but rsp in the scratch. */
export function plainCase(code: readonly number[] | Uint8Array, registers: Record<number, bigint> = {}): Case {
  const gpr = new BigUint64Array(16);
  gpr[RSP] = BigInt(SCRATCH + 4096);
  for (const [n, value] of Object.entries(registers)) gpr[Number(n)] = value;
  return { code: Uint8Array.from(code), gpr, rflags: 0x202, fx: null, scratch: new Uint8Array(8192) };
}
