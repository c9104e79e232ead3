/**
 * The software CPU alone: guest instructions a second of host CPU time, bare on the engine (no paging of the guest's, no hypervisor), on each
 * architecture from the same source.
 */
import { HART_ECALL, P2m } from "../../arch/riscv64/cpu.ts";
import { createRiscvMachine } from "../../arch/riscv64/machine.ts";
import {
  RAX,
  RDI,
  RSP,
  SYS_HLT,
  SYSTEM_EXIT,
  SYSTEM_FAULT,
  X86_EXIT_PLATFORM,
  X86Machine,
} from "../../arch/x86/index.ts";
import { LOAD, PROGRAMS, type Program, STACK } from "./programs.ts";
import { RISCV_DATA, RISCV_DATA_END, RISCV_LOAD, RISCV_PROGRAMS, RISCV_STACK } from "./programs-riscv.ts";
import { median } from "./statistics.ts";

/** Architectures of guests. */
export type Isa = "x86" | "riscv64";

/** The programs, by name so that an architecture's stands beside the other's. */
export const KERNELS: readonly { readonly isa: Isa; readonly program: Program }[] = [
  ...new Set([...PROGRAMS, ...RISCV_PROGRAMS].map(({ name }) => name)),
].flatMap((name) => [
  ...PROGRAMS.filter((program) => program.name === name).map((program) => ({ isa: "x86" as const, program })),
  ...RISCV_PROGRAMS.filter((program) => program.name === name).map((program) => ({ isa: "riscv64" as const, program })),
]);

/** What one program gave. */
export interface ComputeResult {
  readonly isa: Isa;
  readonly name: string;
  readonly instructions: number;
  /** Millions of guest instructions a second of CPU time: median, and every run. */
  readonly mips: number;
  readonly all: readonly number[];
  readonly answer: number;
}

/** A machine with a program in its memory. */
interface Bare {
  /** Sets registers for another run. */
  start(argument: number): void;
  /** Runs to the end. Throws where it ends otherwise. */
  run(): void;
  readonly retired: number;
  /** Low half of what main returned. */
  readonly answer: number;
}

const FRAMES = 2048;
const BUDGET = 2_000_000_000;
const SSTATUS = 0x100;
const SSTATUS_FS = 0x6000;

const BARE: Readonly<Record<Isa, (program: Program) => Bare>> = {
  x86(program) {
    const memory = new WebAssembly.Memory({ initial: FRAMES / 16, maximum: FRAMES / 16 });
    new Uint8Array(memory.buffer).set(Buffer.from(program.code, "hex"), LOAD);
    const machine = new X86Machine({
      memory,
      frames: FRAMES,
      platform: {
        system: (vcpu, operation) => {
          if (operation.kind === SYS_HLT) return SYSTEM_EXIT;
          vcpu.raise(6);
          return SYSTEM_FAULT;
        },
      },
    });
    const vcpu = machine.createVcpu();
    return {
      start(argument) {
        vcpu.setRip(program.entry, 0);
        vcpu.set(RDI, argument, 0);
        vcpu.set(RSP, STACK, 0);
      },
      run() {
        const code = machine.run(vcpu, BUDGET);
        if (code !== X86_EXIT_PLATFORM) throw new Error(`it ended with ${code}, rip ${vcpu.ripLo.toString(16)}`);
      },
      get retired() {
        return vcpu.retired;
      },
      get answer() {
        return vcpu.lo(RAX);
      },
    };
  },
  riscv64(program) {
    const memory = new WebAssembly.Memory({ initial: FRAMES / 16, maximum: FRAMES / 16 });
    const machine = createRiscvMachine({ memory, frames: FRAMES, time: () => 0 });
    let frame = 1;
    const p2m = new P2m(memory, FRAMES, { allocate: () => (frame < FRAMES ? frame++ : -1), free: () => {} });
    const map = (from: number, to: number): number => {
      const first = frame;
      frame += (to - from) / 4096;
      for (let n = first; n < frame; n++) p2m.set(from / 4096 + n - first, n);
      return first * 4096;
    };
    map(RISCV_DATA, RISCV_DATA_END);
    new Uint8Array(memory.buffer).set(Buffer.from(program.code, "hex"), map(RISCV_LOAD, RISCV_STACK));
    const hart = machine.createGuest(p2m).createHart();
    hart.writeCsr(SSTATUS, SSTATUS_FS, 0);
    return {
      start(argument) {
        hart.setPc(program.entry, 0);
        hart.setX(10, argument, 0);
        hart.setX(2, RISCV_STACK, 0);
      },
      run() {
        const code = hart.run(BUDGET);
        if (code !== HART_ECALL) throw new Error(`it ended with ${code}, pc ${hart.pcLo.toString(16)}`);
      },
      get retired() {
        return hart.retiredNow;
      },
      get answer() {
        return hart.xLo(10);
      },
    };
  },
};

/** Runs a program `runs` times after one that warms the host's compiler up and is not counted. */
export function compute(isa: Isa, program: Program, runs: number): ComputeResult {
  const bare = BARE[isa](program);
  const all: number[] = [];
  let instructions = 0;
  for (let run = -1; run < runs; run++) {
    bare.start(program.argument);
    const from = bare.retired;
    const cpu = process.cpuUsage();
    bare.run();
    const spent = process.cpuUsage(cpu);
    instructions = bare.retired - from;
    if (run >= 0) all.push(instructions / (spent.user + spent.system));
  }
  return { isa, name: program.name, instructions, mips: median(all), all, answer: bare.answer };
}
