/**
 * The host's own CPU as a reference: compiles test/tools/x86-host/run.c and runs cases through it. Absent compiler or another
 * ISA: `hostCpu()` is null, and tests use the recorded vectors alone.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Case, CODE, type Outcome } from "./guest.ts";

const INPUT = 8 + 248 + 128 + 8 + 512 + 8192;
const OUTPUT = 128 + 8 + 8 + 8 + 16 + 512 + 8192;

export interface HostCpu {
  run(cases: readonly Case[]): Outcome[];
}

/** Exception vector of a signal and trap number. Linux reports #DB and #BP, #UD, #DE as they are. */
function vectorOf(signal: number, trapno: number): number {
  return signal === 5 ? 3 : trapno;
}

export function hostCpu(): HostCpu | null {
  if (process.arch !== "x64" || process.platform !== "linux") return null;
  const program = join(mkdtempSync(join(tmpdir(), "hookvisor-x86-")), "run");
  const source = join(import.meta.dirname, "../../tools/x86-host/run.c");
  const built = spawnSync("gcc", ["-O1", "-fno-stack-protector", "-o", program, source]);
  if (built.status !== 0) return null;
  return {
    run(cases) {
      const outcomes: Outcome[] = [];
      for (let from = 0; from < cases.length; from += 1000) {
        const batch = cases.slice(from, from + 1000);
        const input = Buffer.alloc(batch.length * INPUT);
        batch.forEach((c, n) => {
          const at = n * INPUT;
          input.writeUInt32LE(c.code.length, at);
          input.writeUInt32LE(c.fx === null ? 0 : 1, at + 4);
          input.set(c.code, at + 8);
          for (let r = 0; r < 16; r++) input.writeBigUInt64LE(c.gpr[r]!, at + 256 + 8 * r);
          input.writeBigUInt64LE(BigInt(c.rflags), at + 384);
          if (c.fx !== null) input.set(c.fx, at + 392);
          input.set(c.scratch, at + 904);
        });
        const done = spawnSync(program, [], { input, maxBuffer: batch.length * OUTPUT + 4096 });
        if (done.stdout.length !== batch.length * OUTPUT) {
          throw new Error(`the host ended at case ${from + Math.floor(done.stdout.length / OUTPUT)} (${done.status})`);
        }
        const out = done.stdout;
        batch.forEach((_, n) => {
          const at = n * OUTPUT;
          const gpr = new BigUint64Array(16);
          for (let r = 0; r < 16; r++) gpr[r] = out.readBigUInt64LE(at + 8 * r);
          const vector = vectorOf(out.readUInt32LE(at + 144), out.readUInt32LE(at + 148));
          const rip = Number(BigInt.asIntN(64, out.readBigUInt64LE(at + 136)));
          outcomes.push({
            gpr,
            rflags: Number(out.readBigUInt64LE(at + 128)) & ~0x10000,
            // int3 traps behind itself
            rip: vector === 3 ? rip - 1 : rip,
            vector,
            error: vector === 14 || vector === 13 ? Number(out.readBigUInt64LE(at + 152)) : 0,
            address: vector === 14 ? out.readBigUInt64LE(at + 160) : 0n,
            fx: new Uint8Array(out.subarray(at + 168, at + 680)),
            scratch: new Uint8Array(out.subarray(at + 680, at + 680 + 8192)),
          });
        });
      }
      return outcomes;
    },
  };
}

/** What differs between two outcomes, in words; empty when nothing does. `flagMask` says which flags count. */
export function differences(want: Outcome, got: Outcome, flagMask = 0x8d5 | 0x400, xmm = false): string[] {
  const out: string[] = [];
  const hex = (x: bigint | number) => x.toString(16);
  const names = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split(" ");
  if (want.vector !== got.vector) out.push(`vector ${want.vector} got ${got.vector}`);
  if (want.rip !== got.rip) out.push(`rip ${want.rip} got ${got.rip}`);
  if (want.vector === got.vector) {
    if (want.error !== got.error) out.push(`error ${hex(want.error)} got ${hex(got.error)}`);
    if (want.address !== got.address) out.push(`address ${hex(want.address)} got ${hex(got.address)}`);
  }
  for (let n = 0; n < 16; n++) {
    if (want.gpr[n] !== got.gpr[n]) out.push(`${names[n]} ${hex(want.gpr[n]!)} got ${hex(got.gpr[n]!)}`);
  }
  if (((want.rflags ^ got.rflags) & flagMask) !== 0) {
    out.push(`flags ${hex(want.rflags & flagMask)} got ${hex(got.rflags & flagMask)}`);
  }
  for (let n = 0; n < 8192; n++) {
    if (want.scratch[n] !== got.scratch[n]) {
      out.push(`scratch[${n}] ${hex(want.scratch[n]!)} got ${hex(got.scratch[n]!)}`);
      break;
    }
  }
  if (xmm) {
    const bytes = (fx: Uint8Array, from: number, to: number) => Buffer.from(fx.subarray(from, to)).toString("hex");
    const compare = (name: string, from: number, to: number) => {
      const a = bytes(want.fx, from, to);
      const b = bytes(got.fx, from, to);
      if (a !== b) out.push(`${name} ${a} got ${b}`);
    };
    // not the pointers to the last instruction and operand: processors differ in when they keep them
    compare("fcw", 0, 2);
    compare("fsw", 2, 4);
    compare("ftw", 4, 5);
    compare("mxcsr", 24, 28);
    for (let n = 0; n < 8; n++) compare(`st${n}`, 32 + 16 * n, 42 + 16 * n);
    for (let n = 0; n < 16; n++) compare(`xmm${n}`, 160 + 16 * n, 176 + 16 * n);
  }
  return out;
}
export { CODE };
