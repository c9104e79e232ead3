/** The decoder: encodings as LLVM's assembler makes them, every entry, every 16-bit half. */
import { describe, expect, it } from "vitest";
import { decode, expand, INSTRUCTIONS, immediate, rdOf, rs1Of, rs2Of } from "../../../arch/riscv64/decode.ts";
import { Random } from "./generate.ts";

/** Encoding, assembler text, and name with rd, rs1, rs2 (as fields: meaningless where there is none) and the immediate. */
const KNOWN: readonly (readonly [string, string, string])[] = [
  ["12345537", "lui a0, 74565", "lui 10 8 3 305418240"],
  ["fffff297", "auipc t0, 1048575", "auipc 5 31 31 -4096"],
  ["ffdff0ef", "jal ra, -4", "jal 1 31 29 -4"],
  ["fff78467", "jalr s0, -1(a5)", "jalr 8 15 31 -1"],
  ["7eb50f63", "beq a0, a1, 2046", "beq 30 10 11 2046"],
  ["80b510e3", "bne a0, a1, -2048", "bne 1 10 11 -2048"],
  ["0062e863", "bltu t0, t1, 16", "bltu 16 5 6 16"],
  ["80010503", "lb a0, -2048(sp)", "lb 10 2 0 -2048"],
  ["7ff1e583", "lwu a1, 2047(gp)", "lwu 11 3 31 2047"],
  ["ffb13c23", "sd s11, -8(sp)", "sd 24 2 27 -8"],
  ["1ffd", "c.addi t6, -1", "addi 31 31 31 -1"],
  ["03f59513", "slli a0, a1, 63", "slli 10 11 31 63"],
  ["4205d513", "srai a0, a1, 32", "srai 10 11 0 32"],
  ["41f5d51b", "sraiw a0, a1, 31", "sraiw 10 11 31 31"],
  ["41ee8e33", "sub t3, t4, t5", "sub 28 29 30 0"],
  ["02e6a633", "mulhsu a2, a3, a4", "mulhsu 12 13 14 0"],
  ["02e6f63b", "remuw a2, a3, a4", "remuw 12 13 14 0"],
  ["e0b6352f", "amomaxu.d a0, a1, (a2)", "amomaxu.d 10 12 11 0"],
  ["1605a52f", "lr.w.aqrl a0, (a1)", "lr.w 10 11 0 0"],
  ["18c5b52f", "sc.d a0, a2, (a1)", "sc.d 10 11 12 0"],
  ["6ac59543", "fmadd.d fa0, fa1, fa2, fa3, rtz", "fmadd.d 10 11 12 0"],
  ["1820f04b", "fnmsub.s ft0, ft1, ft2, ft3, dyn", "fnmsub.s 0 1 2 0"],
  ["c2353553", "fcvt.lu.d a0, fa0, rup", "fcvt.lu.d 10 10 3 0"],
  ["4015f553", "fcvt.s.d fa0, fa1, dyn", "fcvt.s.d 10 11 1 0"],
  ["22c5a553", "fsgnjx.d fa0, fa1, fa2", "fsgnjx.d 10 11 12 0"],
  ["e0051553", "fclass.s a0, fa0", "fclass.s 10 10 0 0"],
  ["f2050553", "fmv.d.x fa0, a0", "fmv.d.x 10 10 0 0"],
  ["ffc42d87", "flw fs11, -4(s0)", "flw 27 8 28 -4"],
  ["01f53427", "fsd ft11, 8(a0)", "fsd 8 10 31 8"],
  ["14059573", "csrrw a0, sscratch, a1", "csrrw 10 11 0 0"],
  ["10016073", "csrrsi zero, sstatus, 2", "csrrsi 0 2 0 2"],
  ["0310000f", "fence rw, w", "fence 0 0 17 0"],
  ["0000100f", "fence.i", "fence.i 0 0 0 0"],
  ["00000073", "ecall", "ecall 0 0 0 0"],
  ["9002", "c.ebreak", "ebreak 0 0 1 0"],
  ["10200073", "sret", "sret 0 0 2 0"],
  ["10500073", "wfi", "wfi 0 0 5 0"],
  ["12b50073", "sfence.vma a0, a1", "sfence.vma 0 10 11 0"],
  ["1fe0", "c.addi4spn s0, sp, 1020", "addi 8 2 28 1020"],
  ["3d68", "c.fld fa0, 248(a0)", "fld 10 10 24 248"],
  ["5ce8", "c.lw a0, 124(s1)", "lw 10 9 28 124"],
  ["e71c", "c.sd a5, 8(a4)", "sd 8 14 15 8"],
  ["1501", "c.addi a0, -32", "addi 10 10 0 -32"],
  ["257d", "c.addiw a0, 31", "addiw 10 10 31 31"],
  ["59fd", "c.li s3, -1", "addi 19 0 31 -1"],
  ["7101", "c.addi16sp sp, -512", "addi 2 2 0 -512"],
  ["7581", "c.lui a1, 1048544", "lui 11 28 31 -131072"],
  ["957d", "c.srai a0, 63", "srai 10 10 31 63"],
  ["98fd", "c.andi s1, -1", "andi 9 9 31 -1"],
  ["9d0d", "c.subw a0, a1", "subw 10 10 11 0"],
  ["b001", "c.j -2048", "jal 0 31 1 -2048"],
  ["cd7d", "c.beqz a0, 254", "beq 30 10 0 254"],
  ["f001", "c.bnez s0, -256", "bne 1 8 0 -256"],
  ["1286", "c.slli t0, 33", "slli 5 5 1 33"],
  ["34fe", "c.fldsp fs1, 504(sp)", "fld 9 2 24 504"],
  ["50fe", "c.lwsp ra, 252(sp)", "lw 1 2 28 252"],
  ["7dfe", "c.ldsp s11, 504(sp)", "ld 27 2 24 504"],
  ["8302", "c.jr t1", "jalr 0 6 0 0"],
  ["857e", "c.mv a0, t6", "add 10 0 31 0"],
  ["9002", "c.ebreak", "ebreak 0 0 1 0"],
  ["9782", "c.jalr a5", "jalr 1 15 0 0"],
  ["952e", "c.add a0, a1", "add 10 10 11 0"],
  ["a022", "c.fsdsp fs0, 0(sp)", "fsd 0 2 8 0"],
  ["c12a", "c.swsp a0, 128(sp)", "sw 0 2 10 128"],
  ["e406", "c.sdsp ra, 8(sp)", "sd 8 2 1 8"],
];

const all = (word: number): string => {
  const e = decode(word);
  return e === null ? "none" : `${e.name} ${rdOf(word)} ${rs1Of(word)} ${rs2Of(word)} ${immediate(e.format, word)}`;
};

describe("the decoder", () => {
  it.each(KNOWN)("%s is %s", (hex, _text, fields) => {
    const raw = Number.parseInt(hex, 16);
    expect(all(hex.length === 4 ? expand(raw) : raw | 0)).toBe(fields);
  });

  it("has each instruction once, and finds it whatever its operands are", () => {
    expect(new Set(INSTRUCTIONS.map((e) => e.name)).size).toBe(INSTRUCTIONS.length);
    const random = new Random(1);
    for (const e of INSTRUCTIONS) {
      expect(decode(e.match)?.name).toBe(e.name);
      for (let n = 0; n < 50; n++) {
        let word = (e.match & e.mask) | (random.u32() & ~e.mask);
        if (e.rounds) word = (word & ~0x7000) | (random.pick([0, 1, 2, 3, 4, 7]) << 12);
        const found = decode(word)?.name;
        // pause is one of the fences
        expect(e.name === "fence" && found === "pause" ? "fence" : found).toBe(e.name);
      }
    }
  });

  it("refuses reserved rounding modes, other lengths, and what RV64GC does not have", () => {
    for (const word of [
      // fadd.d with rm 5 and 6, fmadd.q, fadd.h
      0x02b5d553,
      0x02b5e553,
      0x6ec5f543,
      0x04b57553,
      // 48-bit and longer, all ones, all zeros
      0x0000001f,
      0x0000003f,
      0xffffffff | 0,
      0,
      // mret, uret, hfence.vvma, Zba's add.uw, Zbb's andn, vsetvli
      0x30200073,
      0x00200073,
      0x22000073,
      0x08b5053b,
      0x40b57533,
      0x00057557,
      // slliw by 32, a load and a store of no width
      0x0205151b,
      0x00007003,
      0x00004023,
      0x00002063,
    ]) {
      expect(decode(word), word.toString(16)).toBeNull();
    }
  });

  it("expands every half to an instruction or to none", () => {
    let legal = 0;
    for (let half = 0; half < 65536; half++) {
      if ((half & 3) === 3) continue;
      const word = expand(half);
      if (word === 0) continue;
      expect(decode(word), half.toString(16)).not.toBeNull();
      legal++;
    }
    // counted once against LLVM's disassembler, which takes c.lui of 0, reserved here, for an instruction
    expect(legal).toMatchInlineSnapshot(`46743`);
    // reserved: all zeros, c.addi4spn 0, c.addiw x0, c.lwsp x0, c.ldsp x0, c.jr x0, c.addi16sp 0, c.lui 0, funct 1 of quadrant 0
    for (const half of [0, 0x0004, 0x2005, 0x4002, 0x6002, 0x8002, 0x6101, 0x6581, 0x8000, 0x9c41, 0x9c61]) {
      expect(expand(half), half.toString(16)).toBe(0);
    }
  });
});
