/**
 * Runs records (generate.ts) on the software CPU, compares outcomes, and writes them as lines of a fixture:
 *
 *   subject seed change...
 *
 * The input is made from subject and seed. A change is x5=..., f3=..., c=... (fcsr) or m=offset:bytes (scratch, from the first to the last byte that
 * changed), all hexadecimal; the code's own bytes are a checksum at the end of the line (k=...), so that a generator that changed is noticed.
 */
import { HART_ECALL, type RiscvMachineOptions } from "../../../arch/riscv64/cpu.ts";
import { asm } from "./assemble.ts";
import {
  CASE_BUDGET,
  CODE_AT,
  CODE_BYTES,
  F_AT,
  FCSR_AT,
  makeCase,
  RECORD,
  RECORD_BYTES,
  SAVE,
  SCRATCH_AT,
} from "./generate.ts";
import { Rig } from "./rig.ts";

const RECORD_FRAME = 1500;
const SAVE_FRAME = 1502;

/** The software CPU with the record's pages at their addresses, in U-mode with the floating-point unit on. */
export class RecordCpu {
  readonly rig: Rig;
  constructor(options: Partial<RiscvMachineOptions> = {}) {
    this.rig = new Rig({ hotSamples: 0, ...options });
    for (let n = 0; n < RECORD_BYTES / 4096; n++) this.rig.p2m.set(RECORD / 4096 + n, RECORD_FRAME + n);
    this.rig.p2m.set(SAVE >>> 12, SAVE_FRAME);
    this.rig.view.setInt32(SAVE_FRAME * 4096 + (SAVE & 4095), asm("ecall"), true);
    this.rig.setCsr(0x100, 0x6000n);
  }

  /** Runs one; `slice`: instructions a run. A string says what went wrong. */
  run(record: Uint8Array, slice = CASE_BUDGET): Uint8Array | string {
    const { rig } = this;
    const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
    const { engine } = rig.machine;
    engine.physical.set(record, RECORD_FRAME * 4096);
    for (let n = 0; n < RECORD_BYTES / 4096; n++) engine.wroteFrame(RECORD_FRAME + n);
    for (let n = 1; n < 32; n++) rig.setX(n, view.getBigUint64(8 * n, true));
    for (let n = 0; n < 32; n++) rig.setF(n, view.getBigUint64(F_AT + 8 * n, true));
    rig.setCsr(3, view.getBigUint64(FCSR_AT, true));
    // no reservation is left of the record before
    rig.setCsr(0x180, 0n);
    rig.hart.setPc(RECORD + CODE_AT, 0);
    let spent = 0;
    for (;;) {
      const code = rig.hart.run(slice);
      spent += rig.hart.spent;
      if (code === HART_ECALL) break;
      if (spent >= CASE_BUDGET) return `not at its end after ${spent} instructions:\n${rig.hart.describe()}`;
    }
    const out = engine.physical.slice(RECORD_FRAME * 4096, RECORD_FRAME * 4096 + RECORD_BYTES);
    const to = new DataView(out.buffer);
    for (let n = 1; n < 32; n++) to.setBigUint64(8 * n, rig.x(n), true);
    for (let n = 0; n < 32; n++) to.setBigUint64(F_AT + 8 * n, rig.f(n), true);
    to.setBigUint64(FCSR_AT, rig.csr(3), true);
    return out;
  }
}

/** What differs between two outcomes, in words. */
export function differences(want: Uint8Array, got: Uint8Array | string): string {
  if (typeof got === "string") return got;
  const a = new DataView(want.buffer, want.byteOffset, want.byteLength);
  const b = new DataView(got.buffer, got.byteOffset, got.byteLength);
  const out: string[] = [];
  for (let n = 0; n <= 64; n++) {
    const [w, g] = [a.getBigUint64(8 * n, true), b.getBigUint64(8 * n, true)];
    const name = n === 64 ? "fcsr" : n < 32 ? `x${n}` : `f${n - 32}`;
    if (w !== g) out.push(`${name} ${w.toString(16)} got ${g.toString(16)}`);
  }
  for (let n = CODE_AT; n < RECORD_BYTES; n++) {
    if (want[n] === got[n]) continue;
    out.push(`byte ${n.toString(16)}: ${want[n]} got ${got[n]}`);
    break;
  }
  return out.join("; ");
}

function checksum(record: Uint8Array): string {
  let sum = 0;
  for (let n = CODE_AT; n < CODE_AT + CODE_BYTES; n++) sum = (Math.imul(sum, 31) + (record[n] ?? 0)) >>> 0;
  return sum.toString(16);
}

export interface RecordedCase {
  readonly subject: string;
  readonly input: Uint8Array;
  readonly outcome: Uint8Array;
}

export function encodeLine(subject: string, seed: number, outcome: Uint8Array): string {
  const input = makeCase(seed, subject);
  const a = new DataView(input.buffer);
  const b = new DataView(outcome.buffer, outcome.byteOffset, outcome.byteLength);
  const parts = [subject, String(seed)];
  for (let n = 1; n <= 64; n++) {
    const value = b.getBigUint64(8 * n, true);
    if (value === a.getBigUint64(8 * n, true)) continue;
    parts.push(`${n === 64 ? "c" : n < 32 ? `x${n}` : `f${n - 32}`}=${value.toString(16)}`);
  }
  let first = SCRATCH_AT;
  while (first < RECORD_BYTES && input[first] === outcome[first]) first++;
  if (first < RECORD_BYTES) {
    let last = RECORD_BYTES - 1;
    while (input[last] === outcome[last]) last--;
    parts.push(`m=${first.toString(16)}:${Buffer.from(outcome.subarray(first, last + 1)).toString("hex")}`);
  }
  parts.push(`k=${checksum(input)}`);
  return parts.join(" ");
}

/** Throws where the line is of another generator. */
export function decodeLine(line: string): RecordedCase {
  const [subject = "", seed, ...changes] = line.split(" ");
  const input = makeCase(Number(seed), subject);
  const outcome = input.slice();
  const view = new DataView(outcome.buffer);
  for (const change of changes) {
    const [name = "", value = ""] = change.split("=");
    if (name === "k") {
      if (value !== checksum(input)) throw new Error(`${subject} ${seed} was recorded with another generator`);
    } else if (name === "m") {
      const [at = "", bytes = ""] = value.split(":");
      outcome.set(Buffer.from(bytes, "hex"), Number.parseInt(at, 16));
    } else {
      const n = name === "c" ? 64 : Number(name.slice(1)) + (name.startsWith("f") ? 32 : 0);
      view.setBigUint64(8 * n, BigInt(`0x${value}`), true);
    }
  }
  return { subject, input, outcome };
}
