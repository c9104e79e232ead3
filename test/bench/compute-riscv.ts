/**
 * The software RISC-V CPU alone: guest instructions a second of host CPU time, bare on the engine (no paging but the P2m, no hypervisor).
 */
import { HART_BUDGET, HART_ECALL, P2m } from "../../arch/riscv64/cpu.ts";
import { createRiscvMachine } from "../../arch/riscv64/machine.ts";
import type { ComputeResult } from "./compute.ts";
import type { Program } from "./programs.ts";
import { RISCV_DATA, RISCV_DATA_END, RISCV_LOAD, RISCV_STACK } from "./programs-riscv.ts";
import { median } from "./statistics.ts";

const FRAMES = 2048;
const CODE_FRAME = 256;
const DATA_FRAME = 1024;
const A0 = 10;
const SP = 2;
const SSTATUS = 0x100;

/** Runs a program `runs` times after one that warms the host's compiler up and is not counted. */
export function computeRiscv(program: Program, runs: number): ComputeResult {
  const memory = new WebAssembly.Memory({ initial: FRAMES / 16, maximum: FRAMES / 16 });
  const machine = createRiscvMachine({ memory, frames: FRAMES, time: () => 0 });
  let next = 1;
  const p2m = new P2m(memory, FRAMES, { allocate: () => (next < CODE_FRAME ? next++ : -1), free: () => {} });
  const map = (from: number, to: number, frame: number): void => {
    for (let gpa = from; gpa < to; gpa += 4096) p2m.set(gpa / 4096, frame + (gpa - from) / 4096);
  };
  map(RISCV_LOAD, RISCV_STACK, CODE_FRAME);
  map(RISCV_DATA, RISCV_DATA_END, DATA_FRAME);
  machine.engine.physical.set(Buffer.from(program.code, "hex"), CODE_FRAME * 4096);
  const hart = machine.createGuest(p2m).createHart();
  hart.writeCsr(SSTATUS, 0x6000, 0);
  const all: number[] = [];
  let instructions = 0;
  for (let run = -1; run < runs; run++) {
    hart.setPc(program.entry, 0);
    hart.setX(A0, program.argument, 0);
    hart.setX(SP, RISCV_STACK, 0);
    instructions = 0;
    const cpu = process.cpuUsage();
    let code: number = HART_BUDGET;
    while (code === HART_BUDGET) {
      code = hart.run(100_000_000);
      instructions += hart.spent;
    }
    const spent = process.cpuUsage(cpu);
    if (code !== HART_ECALL) throw new Error(`${program.name} ended with ${code}:\n${hart.describe()}`);
    if (run >= 0) all.push(instructions / (spent.user + spent.system));
  }
  return { name: `riscv ${program.name}`, instructions, mips: median(all), all, answer: hart.xLo(A0) };
}
