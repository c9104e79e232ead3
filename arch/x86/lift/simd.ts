/**
 * Lifters of MMX, SSE and SSE2.
 *
 * Integer and bitwise operations and all moves are vector ops of the IR on the xmm cells. Floating-point arithmetic is the helper of
 * sse-float.ts. An MMX register is the significand of an x87 register: operations are done on 128 bits in a vector temporary,
 * whose low (or high) half is put back, with the register's exponent set to all ones, TOP 0 and all tags in use.
 * Aligned memory operands of 16 bytes are checked (#GP).
 */
import { F_MEMORY, F_SIMD, type Instruction, MAP_0F, PP_66, PP_F2, PP_F3, PP_NONE } from "../decode.ts";
import { exists, id } from "../opset.ts";
import { sseFloatOperation } from "../sse-float.ts";
import { fpuRegister, gpr, RDI, STATE, segmentBase, xmm } from "../state.ts";
import type { TableBuilder } from "../table.ts";
import { FLAGS_UNKNOWN, HELPER_SSE, HELPER_STATE, type LiftContext, type Lifter, memoryOp } from "./context.ts";

const VLD = memoryOp("vld");
const VLDZ64 = memoryOp("vldz64");
const VLDZ32 = memoryOp("vldz32");
const LD64 = memoryOp("ld64");
const VST = memoryOp("vst");
const VST64 = memoryOp("vst64");
const VST32 = memoryOp("vst32");
const VMOV = id("vmov");
const MOV64 = id("mov64");
const MOV32 = id("mov32");
const MOV16 = id("mov16");
const MOV64I = id("mov64i");
const MOV16I = id("mov16i");
const LOW32 = id("x.low32");
const ALIGNED16 = id("x.aligned16");
const MMX = id("x.mmx");
const MMX_WAIT = id("x.mmx.wait");
const SHUFFLE = id("i8x16.shuffle");
const ZX16 = id("zx16");
const HELPER = id("helper");
/** State helper: what the masked stores are there. */
export const STATE_MASKED_STORE = 4;

/** #NM when CR0.TS or EM is set (a mode bit): true, and the block has ended. */
export function unavailable(x: LiftContext): boolean {
  if (!x.fpuDisabled) return false;
  x.raise(7);
  return true;
}
/** `operands` with an mmx register: an x87 exception that waits comes first. */
const guarded = (lift: Lifter, operands = ""): Lifter => {
  const mmx = /\b[PQN]/.test(operands);
  return (x, i) => {
    if (unavailable(x)) return;
    if (mmx) x.emit(MMX_WAIT);
    lift(x, i);
  };
};

/** Prepares a 16-byte memory operand that must be aligned. */
function alignedAddress(x: LiftContext, i: Instruction): void {
  x.address(i);
  const t = x.temp();
  x.lea(t);
  x.emit(ALIGNED16, 0, t);
  x.at(t);
}
/** The xmm r/m operand of 16, 8 or 4 bytes as a cell. */
function readW(x: LiftContext, i: Instruction, bytes: number, aligned = true): number {
  if (i.mod === 3) return xmm(i.rm);
  if (bytes === 16 && aligned) alignedAddress(x, i);
  else x.address(i);
  const v = x.vector();
  x.memory(bytes === 16 ? VLD : bytes === 8 ? VLDZ64 : VLDZ32, v);
  return v;
}
const mm = (n: number): number => fpuRegister(n & 7);
/** The mmx r/m operand as a cell whose low 64 bits count. */
function readQ(x: LiftContext, i: Instruction, bytes = 8): number {
  if (i.mod === 3) return mm(i.rm);
  x.address(i);
  const v = x.vector();
  x.memory(bytes === 8 ? VLDZ64 : VLDZ32, v);
  return v;
}
/** Puts 64 bits of a cell into an mmx register. */
function writeMmx(x: LiftContext, register: number, cell: number): void {
  x.emit(MOV64, mm(register), cell);
  x.emit(MOV16I, mm(register) + 8, 0, 0, 0xffff);
  x.emit(MMX);
}

function shuffle(x: LiftContext, d: number, a: number, b: number, lanes: readonly number[]): void {
  const word = (from: number) =>
    lanes[from]! | (lanes[from + 1]! << 8) | (lanes[from + 2]! << 16) | (lanes[from + 3]! << 24);
  x.b.emitExtra(SHUFFLE, d, a, b, 0, 0, word(0), word(4), word(8), word(12));
}
/** Byte lanes from element numbers (of `size` bytes; 0.. of a, then of b). */
const elements = (size: number, numbers: readonly number[]): number[] =>
  numbers.flatMap((n) => Array.from({ length: size }, (_, k) => n * size + k));
/** Interleaves the low or high halves of a and b. */
const interleave = (size: number, high: boolean): number[] => {
  const half = 8 / size;
  const numbers: number[] = [];
  for (let n = 0; n < half; n++) numbers.push((high ? half : 0) + n, (high ? half : 0) + n + 2 * half);
  return elements(size, numbers);
};

// ---- families -----------------------------------------------------------------------------------------------------

/** How an operation is done on cells: `d` may be `a`. */
type Vector = (x: LiftContext, d: number, a: number, b: number) => void;
const op = (name: string, swapped = false): Vector => {
  const code = id(name);
  return swapped ? (x, d, a, b) => x.emit(code, d, b, a) : (x, d, a, b) => x.emit(code, d, a, b);
};

const onXmm =
  (f: Vector): Lifter =>
  (x, i) => {
    const b = readW(x, i, 16);
    f(x, xmm(i.reg), xmm(i.reg), b);
  };
/** The same on mmx; `high` takes the result's upper half. */
const onMmx =
  (f: Vector, high = false, bytes = 8): Lifter =>
  (x, i) => {
    const b = readQ(x, i, bytes);
    const v = x.vector();
    f(x, v, mm(i.reg), b);
    writeMmx(x, i.reg, v + (high ? 8 : 0));
  };

const unpack =
  (size: number, high: boolean): Vector =>
  (x, d, a, b) =>
    shuffle(x, d, a, b, interleave(size, high));
/** Saturating packs; on mmx both sources share one register first. */
const packMmx =
  (name: string): Vector =>
  (x, d, a, b) => {
    shuffle(x, d, a, b, elements(8, [0, 2]));
    x.emit(id(name), d, d, d);
  };
const highWords = (sign: "s" | "u"): Vector => {
  const low = id(`i32x4.extmul_low_i16x8_${sign}`);
  const high = id(`i32x4.extmul_high_i16x8_${sign}`);
  const odd = elements(2, [1, 3, 5, 7, 9, 11, 13, 15]);
  return (x, d, a, b) => {
    const l = x.vector();
    const h = x.vector();
    x.emit(low, l, a, b);
    x.emit(high, h, a, b);
    shuffle(x, d, l, h, odd);
  };
};
const multiplyDoublewords: Vector = (x, d, a, b) => {
  const even = elements(4, [0, 2, 0, 2]);
  const l = x.vector();
  const r = x.vector();
  shuffle(x, l, a, a, even);
  shuffle(x, r, b, b, even);
  x.emit(id("i64x2.extmul_low_i32x4_u"), d, l, r);
};

/** [opcode, name, operation] of those with an xmm form (66) and an mmx form (none) that are the same lane by lane. */
const LANES: readonly [number, string, Vector][] = [
  [0x64, "pcmpgtb", op("i8x16.gt_s")],
  [0x65, "pcmpgtw", op("i16x8.gt_s")],
  [0x66, "pcmpgtd", op("i32x4.gt_s")],
  [0x74, "pcmpeqb", op("i8x16.eq")],
  [0x75, "pcmpeqw", op("i16x8.eq")],
  [0x76, "pcmpeqd", op("i32x4.eq")],
  [0xd1, "psrlw", op("x.psrlw")],
  [0xd2, "psrld", op("x.psrld")],
  [0xd3, "psrlq", op("x.psrlq")],
  [0xd4, "paddq", op("i64x2.add")],
  [0xd5, "pmullw", op("i16x8.mul")],
  [0xd8, "psubusb", op("i8x16.sub_sat_u")],
  [0xd9, "psubusw", op("i16x8.sub_sat_u")],
  [0xda, "pminub", op("i8x16.min_u")],
  [0xdb, "pand", op("v128.and")],
  [0xdc, "paddusb", op("i8x16.add_sat_u")],
  [0xdd, "paddusw", op("i16x8.add_sat_u")],
  [0xde, "pmaxub", op("i8x16.max_u")],
  [0xdf, "pandn", op("v128.andnot", true)],
  [0xe0, "pavgb", op("i8x16.avgr_u")],
  [0xe1, "psraw", op("x.psraw")],
  [0xe2, "psrad", op("x.psrad")],
  [0xe3, "pavgw", op("i16x8.avgr_u")],
  [0xe4, "pmulhuw", highWords("u")],
  [0xe5, "pmulhw", highWords("s")],
  [0xe8, "psubsb", op("i8x16.sub_sat_s")],
  [0xe9, "psubsw", op("i16x8.sub_sat_s")],
  [0xea, "pminsw", op("i16x8.min_s")],
  [0xeb, "por", op("v128.or")],
  [0xec, "paddsb", op("i8x16.add_sat_s")],
  [0xed, "paddsw", op("i16x8.add_sat_s")],
  [0xee, "pmaxsw", op("i16x8.max_s")],
  [0xef, "pxor", op("v128.xor")],
  [0xf1, "psllw", op("x.psllw")],
  [0xf2, "pslld", op("x.pslld")],
  [0xf3, "psllq", op("x.psllq")],
  [0xf4, "pmuludq", multiplyDoublewords],
  [0xf5, "pmaddwd", op("i32x4.dot_i16x8_s")],
  [0xf6, "psadbw", op("x.psadbw")],
  [0xf8, "psubb", op("i8x16.sub")],
  [0xf9, "psubw", op("i16x8.sub")],
  [0xfa, "psubd", op("i32x4.sub")],
  [0xfb, "psubq", op("i64x2.sub")],
  [0xfc, "paddb", op("i8x16.add")],
  [0xfd, "paddw", op("i16x8.add")],
  [0xfe, "paddd", op("i32x4.add")],
];

function integers(t: TableBuilder): void {
  const put = (opcode: number, pp: number, name: string, operands: string, lift: Lifter, flags = 0) =>
    t.put(MAP_0F, opcode, t.entry(name, operands, guarded(lift, operands), F_SIMD | flags), [pp]);
  for (const [opcode, name, f] of LANES) {
    put(opcode, PP_66, name, "Vdq Wdq", onXmm(f));
    put(opcode, PP_NONE, name, "Pq Qq", onMmx(f));
  }
  for (const [opcode, name, size, high] of [
    [0x60, "punpcklbw", 1, false],
    [0x61, "punpcklwd", 2, false],
    [0x62, "punpckldq", 4, false],
    [0x68, "punpckhbw", 1, true],
    [0x69, "punpckhwd", 2, true],
    [0x6a, "punpckhdq", 4, true],
  ] as const) {
    put(opcode, PP_66, name, "Vdq Wdq", onXmm(unpack(size, high)));
    put(opcode, PP_NONE, name, "Pq Qq", onMmx(unpack(size, false), high, high ? 8 : 4));
  }
  put(0x6c, PP_66, "punpcklqdq", "Vdq Wdq", onXmm(unpack(8, false)));
  put(0x6d, PP_66, "punpckhqdq", "Vdq Wdq", onXmm(unpack(8, true)));
  for (const [opcode, name, narrow] of [
    [0x63, "packsswb", "i8x16.narrow_i16x8_s"],
    [0x67, "packuswb", "i8x16.narrow_i16x8_u"],
    [0x6b, "packssdw", "i16x8.narrow_i32x4_s"],
  ] as const) {
    put(opcode, PP_66, name, "Vdq Wdq", onXmm(op(narrow)));
    put(opcode, PP_NONE, name, "Pq Qq", onMmx(packMmx(narrow)));
  }
  // shifts by immediate: groups 12, 13, 14
  const shift = (name: string, operands: string, wide: boolean) =>
    t.entry(
      name,
      operands,
      guarded((x, i) => {
        const code = id(`x.${name}i`);
        const count = i.immLo & 0xff;
        if (wide) x.emit(code, xmm(i.rm), xmm(i.rm), 0, count);
        else {
          const v = x.vector();
          x.emit(code, v, mm(i.rm), 0, count);
          writeMmx(x, i.rm, v);
        }
      }),
      F_SIMD,
    );
  const bytesShift = (name: string, left: boolean) =>
    t.entry(
      name,
      "Udq Ib",
      guarded((x, i) => {
        const n = Math.min(i.immLo & 0xff, 16);
        const zero = x.vector();
        x.emit(id("vzero"), zero);
        const r = xmm(i.rm);
        const lanes = Array.from({ length: 16 }, (_, k) => {
          const from = left ? k - n : k + n;
          return from >= 0 && from < 16 ? from : 16;
        });
        shuffle(x, r, r, zero, lanes);
      }),
      F_SIMD,
    );
  for (const [opcode, forms] of [
    [0x71, { 2: "psrlw", 4: "psraw", 6: "psllw" }],
    [0x72, { 2: "psrld", 4: "psrad", 6: "pslld" }],
    [0x73, { 2: "psrlq", 6: "psllq" }],
  ] as const) {
    for (const wide of [false, true]) {
      const group = Array.from({ length: 16 }, () => null) as (ReturnType<typeof shift> | null)[];
      for (const [reg, name] of Object.entries(forms)) {
        group[8 + Number(reg)] = shift(name, wide ? "Udq Ib" : "Nq Ib", wide);
      }
      if (wide && opcode === 0x73) {
        group[8 + 3] = bytesShift("psrldq", false);
        group[8 + 7] = bytesShift("pslldq", true);
      }
      t.put(MAP_0F, opcode, t.group("group 12", group), [wide ? PP_66 : PP_NONE]);
    }
  }
  // pshufd, pshufhw, pshuflw, pshufw
  const pick = (imm: number) => [0, 1, 2, 3].map((n) => (imm >> (2 * n)) & 3);
  const permute =
    (lanes: (imm: number) => number[]): Lifter =>
    (x, i) => {
      const b = readW(x, i, 16);
      shuffle(x, xmm(i.reg), b, b, lanes(i.immLo & 0xff));
    };
  put(
    0x70,
    PP_66,
    "pshufd",
    "Vdq Wdq Ib",
    permute((imm) => elements(4, pick(imm))),
  );
  put(
    0x70,
    PP_F3,
    "pshufhw",
    "Vdq Wdq Ib",
    permute((imm) => elements(2, [0, 1, 2, 3, ...pick(imm).map((n) => 4 + n)])),
  );
  put(
    0x70,
    PP_F2,
    "pshuflw",
    "Vdq Wdq Ib",
    permute((imm) => elements(2, [...pick(imm), 4, 5, 6, 7])),
  );
  put(0x70, PP_NONE, "pshufw", "Pq Qq Ib", (x, i) => {
    const b = readQ(x, i);
    const v = x.vector();
    shuffle(x, v, b, b, elements(2, [...pick(i.immLo & 0xff), 4, 5, 6, 7]));
    writeMmx(x, i.reg, v);
  });
  // pinsrw, pextrw, pmovmskb
  const insert =
    (wide: boolean): Lifter =>
    (x, i) => {
      let value = gpr(i.rm);
      if (i.mod !== 3) {
        x.address(i);
        value = x.temp();
        x.load(2, value);
      }
      const lane = i.immLo & (wide ? 7 : 3);
      if (wide) x.emit(MOV16, xmm(i.reg) + 2 * lane, value);
      else {
        x.emit(MOV16, mm(i.reg) + 2 * lane, value);
        writeMmx(x, i.reg, mm(i.reg));
      }
    };
  put(0xc4, PP_66, "pinsrw", "Vdq Ew Ib", insert(true));
  put(0xc4, PP_NONE, "pinsrw", "Pq Ew Ib", insert(false));
  put(0xc5, PP_66, "pextrw", "Gd Udq Ib", (x, i) => x.emit(ZX16, gpr(i.reg), xmm(i.rm) + 2 * (i.immLo & 7)));
  put(0xc5, PP_NONE, "pextrw", "Gd Nq Ib", (x, i) => {
    x.emit(ZX16, gpr(i.reg), mm(i.rm) + 2 * (i.immLo & 3));
    x.emit(MMX);
  });
  put(0xd7, PP_66, "pmovmskb", "Gd Udq", (x, i) => x.emit(id("i8x16.bitmask"), gpr(i.reg), xmm(i.rm)));
  put(0xd7, PP_NONE, "pmovmskb", "Gd Nq", (x, i) => {
    const t = x.temp();
    x.emit(id("i8x16.bitmask"), t, mm(i.rm));
    x.emit(id("zx8"), gpr(i.reg), t);
    x.emit(MMX);
  });
  put(0x50, PP_NONE, "movmskps", "Gd Udq", (x, i) => x.emit(id("i32x4.bitmask"), gpr(i.reg), xmm(i.rm)));
  put(0x50, PP_66, "movmskpd", "Gd Udq", (x, i) => x.emit(id("i64x2.bitmask"), gpr(i.reg), xmm(i.rm)));
  t.put(
    MAP_0F,
    0x77,
    t.entry(
      "emms",
      "",
      guarded((x) => x.emit(MOV16I, STATE.at.fpuTags), "Pq"),
      F_SIMD,
    ),
    [PP_NONE],
  );
}

function moves(t: TableBuilder): void {
  const put = (opcode: number, pp: number, name: string, operands: string, lift: Lifter, flags = 0) =>
    t.put(MAP_0F, opcode, t.entry(name, operands, guarded(lift, operands), F_SIMD | flags), [pp]);
  const load =
    (aligned: boolean): Lifter =>
    (x, i) => {
      if (i.mod === 3) {
        x.emit(VMOV, xmm(i.reg), xmm(i.rm));
        return;
      }
      if (aligned) alignedAddress(x, i);
      else x.address(i);
      x.memory(VLD, xmm(i.reg));
    };
  const store =
    (aligned: boolean): Lifter =>
    (x, i) => {
      if (i.mod === 3) {
        x.emit(VMOV, xmm(i.rm), xmm(i.reg));
        return;
      }
      if (aligned) alignedAddress(x, i);
      else x.address(i);
      x.memory(VST, xmm(i.reg));
    };
  for (const [opcode, pp, name, aligned] of [
    [0x10, PP_NONE, "movups", false],
    [0x10, PP_66, "movupd", false],
    [0x28, PP_NONE, "movaps", true],
    [0x28, PP_66, "movapd", true],
    [0x6f, PP_66, "movdqa", true],
    [0x6f, PP_F3, "movdqu", false],
  ] as const) {
    put(opcode, pp, name, "Vdq Wdq", load(aligned));
    put(opcode === 0x6f ? 0x7f : opcode + 1, pp, name, "Wdq Vdq", store(aligned));
  }
  put(0x2b, PP_NONE, "movntps", "Mdq Vdq", store(true));
  put(0x2b, PP_66, "movntpd", "Mdq Vdq", store(true));
  put(0xe7, PP_66, "movntdq", "Mdq Vdq", store(true));
  put(0xe7, PP_NONE, "movntq", "Mq Pq", (x, i) => {
    x.address(i);
    x.store(8, mm(i.reg));
    x.emit(MMX);
  });
  // movss, movsd: a load clears the rest, a register move keeps it
  for (const [pp, name, single] of [
    [PP_F3, "movss", true],
    [PP_F2, "movsd", false],
  ] as const) {
    put(0x10, pp, name, "Vdq W", (x, i) => {
      if (i.mod === 3) x.emit(single ? LOW32 : MOV64, xmm(i.reg), xmm(i.rm));
      else {
        x.address(i);
        x.memory(single ? VLDZ32 : VLDZ64, xmm(i.reg));
      }
    });
    put(0x11, pp, name, "W Vdq", (x, i) => {
      if (i.mod === 3) x.emit(single ? LOW32 : MOV64, xmm(i.rm), xmm(i.reg));
      else {
        x.address(i);
        x.memory(single ? VST32 : VST64, xmm(i.reg));
      }
    });
  }
  // movlps, movhps and pd; the register forms without prefix are movhlps and movlhps
  for (const pp of [PP_NONE, PP_66]) {
    const register = pp === PP_NONE ? 0 : F_MEMORY;
    const suffix = pp === PP_NONE ? "ps" : "pd";
    put(
      0x12,
      pp,
      `movlp${suffix[1]}`,
      "Vq Wq",
      (x, i) => {
        if (i.mod === 3) x.emit(MOV64, xmm(i.reg), xmm(i.rm) + 8);
        else {
          x.address(i);
          x.memory(LD64, xmm(i.reg));
        }
      },
      register,
    );
    put(
      0x16,
      pp,
      `movhp${suffix[1]}`,
      "Vq Wq",
      (x, i) => {
        if (i.mod === 3) x.emit(MOV64, xmm(i.reg) + 8, xmm(i.rm));
        else {
          x.address(i);
          x.memory(LD64, xmm(i.reg) + 8);
        }
      },
      register,
    );
    for (const [opcode, half] of [
      [0x13, 0],
      [0x17, 8],
    ] as const) {
      put(opcode, pp, `mov${half ? "h" : "l"}p${suffix[1]}`, "Mq Vq", (x, i) => {
        x.address(i);
        x.store(8, xmm(i.reg) + half);
      });
    }
  }
  // movd, movq between general and vector registers
  put(0x6e, PP_66, "movd", "Vdq Ed", (x, i) => {
    const e = x.readE(i, i.size);
    x.emit(i.size === 8 ? MOV64 : MOV32, xmm(i.reg), e);
    x.emit(MOV64I, xmm(i.reg) + 8);
  });
  put(0x6e, PP_NONE, "movd", "Pq Ed", (x, i) => {
    const t = x.temp();
    x.emit(i.size === 8 ? MOV64 : MOV32, t, x.readE(i, i.size));
    writeMmx(x, i.reg, t);
  });
  put(0x7e, PP_66, "movd", "Ed Vdq", (x, i) => {
    if (i.mod === 3) x.move(i.size, gpr(i.rm), xmm(i.reg));
    else {
      x.address(i);
      x.store(i.size, xmm(i.reg));
    }
  });
  put(0x7e, PP_NONE, "movd", "Ed Pq", (x, i) => {
    if (i.mod === 3) x.move(i.size, gpr(i.rm), mm(i.reg));
    else {
      x.address(i);
      x.store(i.size, mm(i.reg));
    }
    x.emit(MMX);
  });
  const quadword = (x: LiftContext, d: number, a: number) => {
    x.emit(MOV64, d, a);
    x.emit(MOV64I, d + 8);
  };
  put(0x7e, PP_F3, "movq", "Vq Wq", (x, i) => {
    if (i.mod === 3) quadword(x, xmm(i.reg), xmm(i.rm));
    else {
      x.address(i);
      x.memory(VLDZ64, xmm(i.reg));
    }
  });
  put(0xd6, PP_66, "movq", "Wq Vq", (x, i) => {
    if (i.mod === 3) quadword(x, xmm(i.rm), xmm(i.reg));
    else {
      x.address(i);
      x.store(8, xmm(i.reg));
    }
  });
  put(0xd6, PP_F3, "movq2dq", "Vdq Nq", (x, i) => {
    quadword(x, xmm(i.reg), mm(i.rm));
    x.emit(MMX);
  });
  put(0xd6, PP_F2, "movdq2q", "Pq Uq", (x, i) => writeMmx(x, i.reg, xmm(i.rm)));
  put(0x6f, PP_NONE, "movq", "Pq Qq", (x, i) => {
    const t = x.temp();
    x.move(8, t, readQ(x, i));
    writeMmx(x, i.reg, t);
  });
  put(0x7f, PP_NONE, "movq", "Qq Pq", (x, i) => {
    if (i.mod === 3) writeMmx(x, i.rm, mm(i.reg));
    else {
      x.address(i);
      x.store(8, mm(i.reg));
      x.emit(MMX);
    }
  });
  // stores of the bytes whose mask byte has its top bit set, at rdi
  for (const [pp, name, operands] of [
    [PP_66, "maskmovdqu", "Vdq Udq"],
    [PP_NONE, "maskmovq", "Pq Nq"],
  ] as const) {
    put(0xf7, pp, name, operands, (x, i) => {
      const t = x.temp();
      if (i.addressSize === 8) x.emit(MOV64, t, gpr(RDI));
      else x.emit(MOV32, t, gpr(RDI));
      if (i.segment >= 4) x.add(t, t, segmentBase(i.segment));
      x.emit(MOV64, STATE.at.helperAddress, t);
      const wide = pp === PP_66;
      x.emit(
        HELPER,
        wide ? xmm(i.reg) : mm(i.reg),
        wide ? xmm(i.rm) : mm(i.rm),
        wide ? 16 : 8,
        HELPER_STATE,
        STATE_MASKED_STORE,
      );
      if (!wide) x.emit(MMX);
    });
  }
}

function floats(t: TableBuilder): void {
  const put = (opcode: number, pp: number, name: string, operands: string, lift: Lifter) =>
    t.put(MAP_0F, opcode, t.entry(name, operands, guarded(lift, operands), F_SIMD), [pp]);
  for (const [pp, suffix] of [
    [PP_NONE, "ps"],
    [PP_66, "pd"],
  ] as const) {
    put(0x54, pp, `and${suffix}`, "Vdq Wdq", onXmm(op("v128.and")));
    put(0x55, pp, `andn${suffix}`, "Vdq Wdq", onXmm(op("v128.andnot", true)));
    put(0x56, pp, `or${suffix}`, "Vdq Wdq", onXmm(op("v128.or")));
    put(0x57, pp, `xor${suffix}`, "Vdq Wdq", onXmm(op("v128.xor")));
    const size = pp === PP_NONE ? 4 : 8;
    put(0x14, pp, `unpckl${suffix}`, "Vdq Wdq", onXmm(unpack(size, false)));
    put(0x15, pp, `unpckh${suffix}`, "Vdq Wdq", onXmm(unpack(size, true)));
    put(0xc6, pp, `shuf${suffix}`, "Vdq Wdq Ib", (x, i) => {
      const b = readW(x, i, 16);
      const imm = i.immLo & 0xff;
      const numbers =
        size === 4
          ? [imm & 3, (imm >> 2) & 3, 4 + ((imm >> 4) & 3), 4 + ((imm >> 6) & 3)]
          : [imm & 1, 2 + ((imm >> 1) & 1)];
      shuffle(x, xmm(i.reg), xmm(i.reg), b, elements(size, numbers));
    });
  }
  for (const opcode of [
    0x2a, 0x2c, 0x2d, 0x2e, 0x2f, 0x51, 0x52, 0x53, 0x58, 0x59, 0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f, 0xc2, 0xe6,
  ]) {
    for (const pp of [PP_NONE, PP_66, PP_F3, PP_F2] as const) {
      const operation = sseFloatOperation(opcode, pp, false);
      if (operation === undefined) continue;
      const source = operation.source === "xmm" ? "W" : operation.source === "mmx" ? "Qq" : "Ed";
      const target =
        operation.target === "gpr32" || operation.target === "gpr64" ? "Gd" : operation.target === "mmx" ? "Pq" : "Vdq";
      // by REX.W: what does the usual case in WebAssembly, where there is such an op
      const ops = [false, true].map((wide) => {
        const name = `x.${sseFloatOperation(opcode, pp, wide)!.name}`;
        return exists(name) ? id(name) : HELPER;
      });
      put(opcode, pp, operation.name, `${target} ${source}${operation.immediate ? " Ib" : ""}`, (x, i) => {
        const wide = i.size === 8;
        const o = sseFloatOperation(opcode, pp, wide)!;
        const from =
          o.source === "xmm"
            ? readW(x, i, o.sourceBytes)
            : o.source === "mmx"
              ? readQ(x, i)
              : x.readE(i, o.source === "gpr64" ? 8 : 4);
        const to =
          o.target === "xmm" || o.target === "rflags" ? xmm(i.reg) : o.target === "mmx" ? mm(i.reg) : gpr(i.reg);
        // b: the immediate; detail: opcode, prefix, REX.W
        x.emit(ops[wide ? 1 : 0]!, to, from, i.immLo & 0xff, HELPER_SSE, opcode | (pp << 8) | (wide ? 0x400 : 0));
        if (o.source === "mmx" || o.target === "mmx") x.emit(MMX);
        if (o.target === "rflags") x.flags = FLAGS_UNKNOWN;
      });
    }
  }
}

export function addSimd(t: TableBuilder): void {
  integers(t);
  moves(t);
  floats(t);
}
