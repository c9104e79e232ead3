/**
 * The software CPU alone: guest instructions a second of host CPU time, bare on the engine (no paging, no hypervisor).
 */
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
import { LOAD, type Program, STACK } from "./programs.ts";
import { median } from "./statistics.ts";

/** What one program gave. */
export interface ComputeResult {
  readonly name: string;
  readonly instructions: number;
  /** Millions of guest instructions a second of CPU time: median, and every run. */
  readonly mips: number;
  readonly all: readonly number[];
  readonly answer: number;
}

/** Runs a program `runs` times after one that warms the host's compiler up and is not counted. */
export function compute(program: Program, runs: number): ComputeResult {
  const memory = new WebAssembly.Memory({ initial: 128, maximum: 128 });
  const machine = new X86Machine({
    memory,
    frames: 2048,
    platform: {
      system: (vcpu, operation) => {
        if (operation.kind === SYS_HLT) return SYSTEM_EXIT;
        vcpu.raise(6);
        return SYSTEM_FAULT;
      },
    },
  });
  new Uint8Array(memory.buffer).set(Buffer.from(program.code, "hex"), LOAD);
  const vcpu = machine.createVcpu();
  const all: number[] = [];
  let instructions = 0;
  for (let run = -1; run < runs; run++) {
    vcpu.setRip(program.entry, 0);
    vcpu.set(RDI, program.argument, 0);
    vcpu.set(RSP, STACK, 0);
    const from = vcpu.retired;
    const cpu = process.cpuUsage();
    const code = machine.run(vcpu, 2_000_000_000);
    const spent = process.cpuUsage(cpu);
    if (code !== X86_EXIT_PLATFORM)
      throw new Error(`${program.name} ended with ${code}, rip ${vcpu.ripLo.toString(16)}`);
    instructions = vcpu.retired - from;
    if (run >= 0) all.push(instructions / (spent.user + spent.system));
  }
  return { name: program.name, instructions, mips: median(all), all, answer: vcpu.lo(RAX) };
}
