/**
 * Benchmarks of the software CPU: guest instructions a second of host CPU time, bare on the engine (no paging, no
 * hypervisor), median of several runs. `npm run bench -- [--json FILE] [--runs N] [--only NAME]`.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
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

const { values } = parseArgs({
  options: { json: { type: "string" }, runs: { type: "string", default: "5" }, only: { type: "string" } },
});
const runs = Math.max(1, Number(values.runs));

interface Result {
  readonly name: string;
  readonly instructions: number;
  /** Millions of guest instructions a second of CPU time: median, and every run. */
  readonly mips: number;
  readonly all: readonly number[];
  readonly answer: number;
}

function measure(program: Program): Result {
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
  // The first run warms the host's compiler up and is not counted.
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
  const sorted = [...all].sort((x, y) => x - y);
  return { name: program.name, instructions, mips: sorted[sorted.length >> 1] ?? 0, all, answer: vcpu.lo(RAX) };
}

const results = PROGRAMS.filter((p) => values.only === undefined || p.name === values.only).map((program) => {
  const result = measure(program);
  console.log(
    `${result.name.padEnd(8)} ${result.mips.toFixed(0).padStart(5)} MIPS  (${(result.instructions / 1e6).toFixed(1)} M instructions; ${program.what})`,
  );
  return result;
});
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
