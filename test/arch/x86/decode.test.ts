/** The decoder: lengths, prefixes, operands, and what is no instruction. */
import { describe, expect, it } from "vitest";
import {
  DECODE_MORE,
  DECODE_OK,
  DECODE_TOO_LONG,
  DECODE_UNDEFINED,
  decode,
  Instruction,
  SEG_FS,
} from "../../../arch/x86/decode.ts";
import type { X86Entry } from "../../../arch/x86/lift/context.ts";
import { X86_TABLE } from "../../../arch/x86/table.ts";

const i = new Instruction<X86Entry>();
function run(hex: string, limit = 100): number {
  const bytes = Buffer.concat([Buffer.from(hex.replaceAll(" ", ""), "hex")]);
  i.bits = 64;
  return decode(X86_TABLE, bytes, 0, Math.min(limit, bytes.length), i);
}

describe("decode", () => {
  it("reads operands, displacements and immediates", () => {
    expect(run("48 8b 84 cb 78 56 34 12")).toBe(DECODE_OK); // mov rax, [rbx + rcx*8 + 12345678]
    expect([i.entry?.name, i.length, i.size, i.reg, i.base, i.index, i.scale, i.displacement]).toEqual([
      "mov",
      8,
      8,
      0,
      3,
      1,
      3,
      0x12345678,
    ]);
    expect(run("64 48 8b 04 25 28 00 00 00")).toBe(DECODE_OK); // mov rax, fs:[28]
    expect([i.segment, i.base, i.index, i.displacement]).toEqual([SEG_FS, -1, -1, 0x28]);
    expect(run("48 8d 05 fc ff ff ff")).toBe(DECODE_OK); // lea rax, [rip - 4]
    expect([i.ripRelative, i.displacement]).toEqual([true, -4]);
    expect(run("49 b8 08 07 06 05 04 03 02 81")).toBe(DECODE_OK); // mov r8, imm64
    expect([i.rm, i.immLo >>> 0, i.immHi >>> 0, i.length]).toEqual([8, 0x05060708, 0x81020304, 10]);
    expect(run("66 c7 00 34 12")).toBe(DECODE_OK);
    expect([i.size, i.immLo, i.length]).toEqual([2, 0x1234, 5]);
    expect(run("83 c0 ff")).toBe(DECODE_OK);
    expect([i.immLo, i.immHi]).toEqual([-1, -1]);
    expect(run("c8 10 00 01")).toBe(DECODE_OK); // enter 16, 1
    expect([i.immLo, i.imm2, i.size]).toEqual([16, 1, 8]);
  });
  it("takes r12 and r13 as bases", () => {
    expect(run("49 8b 04 24")).toBe(DECODE_OK);
    expect([i.base, i.index]).toEqual([12, -1]);
    expect(run("49 8b 45 00")).toBe(DECODE_OK);
    expect([i.base, i.displacement]).toEqual([13, 0]);
    expect(run("4a 8b 04 e0")).toBe(DECODE_OK); // [rax + r12*8]: r12 can be an index
    expect([i.base, i.index]).toEqual([0, 12]);
  });
  it("lets a legacy prefix void REX, and ignores segments in 64-bit mode", () => {
    expect(run("48 66 01 c8")).toBe(DECODE_OK);
    expect([i.size, i.rex]).toEqual([2, 0]);
    expect(run("2e 3e 01 08")).toBe(DECODE_OK);
    expect(i.segment).toBe(-1);
  });
  it("keeps near branches at 64 bits, and their displacement at 32", () => {
    expect(run("66 e8 01 02 03 04")).toBe(DECODE_OK);
    expect([i.size, i.length]).toEqual([8, 6]);
    expect(run("41 5f")).toBe(DECODE_OK); // pop r15
    expect([i.rm, i.size]).toEqual([15, 8]);
  });
  it("knows where LOCK may stand", () => {
    expect(run("f0 48 01 08")).toBe(DECODE_OK);
    expect(run("f0 0f b1 0a")).toBe(DECODE_OK);
    expect(run("f0 48 01 c8")).toBe(DECODE_UNDEFINED); // register
    expect(run("f0 39 08")).toBe(DECODE_UNDEFINED); // cmp
    expect(run("f0 8b 08")).toBe(DECODE_UNDEFINED); // mov
    expect(run("f0 90")).toBe(DECODE_UNDEFINED);
  });
  it("asks for more at the end of the bytes, and stops at 15", () => {
    for (const hex of ["48", "48 8b", "48 8b 84", "48 8b 84 cb 78 56 34", "e8 00 00", "0f", "66 66 66"]) {
      expect(run(hex)).toBe(DECODE_MORE);
    }
    expect(run(`${"66".repeat(14)} 90`)).toBe(DECODE_OK);
    expect(i.length).toBe(15);
    expect(run(`${"66".repeat(15)} 90`)).toBe(DECODE_TOO_LONG);
    expect(run(`${"66".repeat(10)} 48 81 04 25 00 00 00 00 00 00 00 00`)).toBe(DECODE_TOO_LONG);
  });
  it("refuses what 64-bit mode has not, and what is not emulated", () => {
    for (const hex of [
      "06",
      "27",
      "37",
      "60",
      "82 c0 00",
      "9a",
      "c4 e2 79 00",
      "c5 f8 77",
      "d6",
      "0f 0b",
      "0f ff",
      "62 f1",
    ]) {
      expect(run(`${hex} 00 00 00 00 00 00 00 00 00 00 00 00 00 00`)).toBe(DECODE_UNDEFINED);
    }
    expect(run("fe d0")).toBe(DECODE_UNDEFINED); // group 4 /2
    expect(run("8d c0")).toBe(DECODE_UNDEFINED); // lea of a register
    expect(run("0f c7 c8")).toBe(DECODE_UNDEFINED); // cmpxchg8b of a register
  });
});
