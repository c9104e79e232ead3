/**
 * qemu-riscv64 (Debian's qemu-user) as a reference CPU: a program of our own, put together here, runs record after record in it.
 *
 * The program reads a record to RECORD, loads all registers from it, jumps to its code, which ends with a jump to SAVE, stores all
 * registers into it, and writes it out.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DebianFileRequest } from "../../../plugins/lib-debian/index.ts";
import { asm, bytesOf } from "./assemble.ts";
import { CODE_AT, F_AT, FCSR_AT, RECORD, RECORD_BYTES, SAVE } from "./generate.ts";

const BASE = 0x10000;
const ENTRY = BASE + 0x100;

/** The program as a static ELF file for riscv64. */
export function program(): Uint8Array {
  const words: number[] = [];
  const label = (): number => ENTRY + 4 * words.length;
  const go = (name: string, o: Parameters<typeof asm>[1] = {}): void => {
    words.push(asm(name, o));
  };
  const [zero, tp, t0, a0, a1, a2, a7, s1, s2, s3] = [0, 4, 5, 10, 11, 12, 17, 9, 18, 19];
  // read a whole record
  const next = label();
  go("lui", { rd: s1, imm: RECORD });
  go("lui", { rd: s3, imm: RECORD_BYTES });
  go("addi", { rd: s2, rs1: zero });
  const more = label();
  go("addi", { rd: a0, rs1: zero });
  go("add", { rd: a1, rs1: s1, rs2: s2 });
  go("sub", { rd: a2, rs1: s3, rs2: s2 });
  go("addi", { rd: a7, rs1: zero, imm: 63 });
  go("ecall");
  go("blt", { rs1: zero, rs2: a0, imm: 16 });
  // end of input: exit(0)
  go("addi", { rd: a0, rs1: zero });
  go("addi", { rd: a7, rs1: zero, imm: 93 });
  go("ecall");
  go("add", { rd: s2, rs1: s2, rs2: a0 });
  go("blt", { rs1: s2, rs2: s3, imm: more - label() });
  go("fence.i");
  go("lui", { rd: tp, imm: RECORD });
  // no reservation is left of the record before
  go("sc.w", { rd: zero, rs1: tp });
  go("ld", { rd: t0, rs1: tp, imm: FCSR_AT });
  go("csrrw", { rd: zero, rs1: t0, imm: 3 });
  for (let n = 0; n < 32; n++) go("fld", { rd: n, rs1: tp, imm: F_AT + 8 * n });
  for (let n = 1; n < 32; n++) if (n !== tp) go("ld", { rd: n, rs1: tp, imm: 8 * n });
  go("jalr", { rd: zero, rs1: tp, imm: CODE_AT });
  if (label() > SAVE) throw new Error("the loading part is too long");
  while (label() < SAVE) go("ebreak");
  for (let n = 1; n < 32; n++) go("sd", { rs1: tp, rs2: n, imm: 8 * n });
  for (let n = 0; n < 32; n++) go("fsd", { rs1: tp, rs2: n, imm: F_AT + 8 * n });
  go("csrrs", { rd: t0, imm: 3 });
  go("sd", { rs1: tp, rs2: t0, imm: FCSR_AT });
  go("addi", { rd: a0, rs1: zero, imm: 1 });
  go("lui", { rd: a1, imm: RECORD });
  go("lui", { rd: a2, imm: RECORD_BYTES });
  go("addi", { rd: a7, rs1: zero, imm: 64 });
  go("ecall");
  go("jal", { rd: zero, imm: next - label() });

  const code = bytesOf(words);
  const file = new Uint8Array(0x100 + code.length);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 243, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(ENTRY), true);
  view.setBigUint64(32, 64n, true);
  // RVC, and double-precision arguments
  view.setUint32(48, 5, true);
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, 1, true);
  view.setUint32(68, 7, true);
  view.setBigUint64(80, BigInt(BASE), true);
  view.setBigUint64(88, BigInt(BASE), true);
  view.setBigUint64(96, BigInt(file.length), true);
  view.setBigUint64(104, BigInt(RECORD + RECORD_BYTES - BASE), true);
  view.setBigUint64(112, 4096n, true);
  file.set(code, 0x100);
  return file;
}

export interface QemuCpu {
  /** Records in, records out. */
  run(records: readonly Uint8Array[]): Uint8Array[];
}

/** Debian's qemu-user for amd64, a static program; it needs an x86-64 Linux. */
export const QEMU_RISCV: DebianFileRequest = {
  suite: "bookworm",
  package: "qemu-user",
  file: "usr/bin/qemu-riscv64",
};
export const canRunQemu: boolean = process.arch === "x64" && process.platform === "linux";

/** The reference CPU, with the program at `qemu`. */
export function qemuCpu(qemu: string): QemuCpu {
  chmodSync(qemu, 0o755);
  return {
    run(records) {
      const folder = mkdtempSync(join(tmpdir(), "hookvisor-riscv-"));
      try {
        const elf = join(folder, "run");
        writeFileSync(elf, program(), { mode: 0o755 });
        const input = join(folder, "in");
        const output = join(folder, "out");
        writeFileSync(input, Buffer.concat(records));
        const [from, to] = [openSync(input, "r"), openSync(output, "w+")];
        const done = spawnSync(qemu, [elf], { stdio: [from, to, "pipe"], timeout: 120_000 });
        closeSync(from);
        closeSync(to);
        const out = readAll(output);
        if (out.length !== records.length * RECORD_BYTES) {
          const at = Math.floor(out.length / RECORD_BYTES);
          throw new Error(`qemu-riscv64 ended at case ${at}: ${done.signal ?? done.status} ${done.stderr}`);
        }
        return records.map((_, n) => out.subarray(n * RECORD_BYTES, (n + 1) * RECORD_BYTES));
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  };
}

function readAll(path: string): Uint8Array {
  return new Uint8Array(readFileSync(path));
}
