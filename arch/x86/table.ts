/**
 * The opcode table: every instruction's name, operands and lifter, in one place.
 *
 * Operands are written as in the manuals' opcode maps (SDM volume 2, appendix A): E r/m, G register, I immediate, J displacement, M
 * memory only, Z register in the opcode, S segment register, O memory offset, V W U xmm, P Q N mmx; sizes b w d q v z, y.
 * Instructions beyond what cpuid.ts advertises are absent: they are #UD.
 */
import {
  F_BYTE,
  F_DEFAULT64,
  F_FORCE64,
  F_LOCK,
  F_MEMORY,
  F_NO64,
  F_REGISTER,
  MAP_0F,
  MAP_ONE,
  PP_66,
  PP_F2,
  PP_F3,
  PP_NONE,
  SEG_DS,
  SEG_ES,
  SEG_FS,
  SEG_GS,
  SEG_SS,
} from "./decode.ts";
import * as alu from "./lift/alu.ts";
import { type Lifter, operandFlags, type X86Entry } from "./lift/context.ts";
import * as control from "./lift/control.ts";
import { addFpu } from "./lift/fpu.ts";
import * as move from "./lift/move.ts";
import { addSimd } from "./lift/simd.ts";
import * as system from "./lift/system.ts";

/** Builds entries and puts them into the table. */
export class TableBuilder {
  readonly table: (X86Entry | null)[] = Array.from({ length: 4096 }, () => null);

  /** An entry of an operand specification. */
  entry(name: string, operands: string, lift: Lifter, flags = 0): X86Entry {
    const parsed = operandFlags(operands);
    return {
      name,
      operands,
      modrm: parsed.modrm,
      immediate: parsed.immediate,
      flags: parsed.flags | flags,
      lift,
      group: null,
    };
  }

  /** A group entry; `forms` are indexed by ModRM.reg (0-7 memory, 8-15 register forms, 16.. whole ModRM bytes C0-FF). */
  group(name: string, forms: readonly (X86Entry | null)[]): X86Entry {
    return { name, operands: "E", modrm: true, immediate: 0, flags: 0, lift: null, group: forms };
  }
  /** The same forms for memory and register. */
  both(name: string, forms: readonly (X86Entry | null)[]): X86Entry {
    const eight = Array.from({ length: 8 }, (_, n) => forms[n] ?? null);
    return this.group(name, [...eight, ...eight]);
  }

  /** Puts an entry at an opcode, for every mandatory prefix or for the ones given. */
  put(
    map: number,
    opcode: number,
    entry: X86Entry | null,
    prefixes: readonly number[] = [PP_NONE, PP_66, PP_F3, PP_F2],
  ): void {
    for (const pp of prefixes) this.table[(map << 10) | (pp << 8) | opcode] = entry;
  }

  one(opcode: number, name: string, operands: string, lift: Lifter, flags = 0): void {
    this.put(MAP_ONE, opcode, this.entry(name, operands, lift, flags));
  }
  two(opcode: number, name: string, operands: string, lift: Lifter, flags = 0): void {
    this.put(MAP_0F, opcode, this.entry(name, operands, lift, flags));
  }
}

const CONDITIONS = ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];

function arithmetic(t: TableBuilder): void {
  for (const [n, name] of ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"].entries()) {
    const lock = name === "cmp" ? 0 : F_LOCK;
    t.one(n * 8 + 0, name, "Eb Gb", alu.aluEG(n), lock);
    t.one(n * 8 + 1, name, "Ev Gv", alu.aluEG(n), lock);
    t.one(n * 8 + 2, name, "Gb Eb", alu.aluGE(n));
    t.one(n * 8 + 3, name, "Gv Ev", alu.aluGE(n));
    t.one(n * 8 + 4, name, "AL Ib", alu.aluAI(n));
    t.one(n * 8 + 5, name, "rAX Iz", alu.aluAI(n));
  }
  const group1 = (operands: string) =>
    t.both(
      "group 1",
      ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"].map((name, n) =>
        t.entry(name, operands, alu.aluEI(n), name === "cmp" ? 0 : F_LOCK),
      ),
    );
  t.put(MAP_ONE, 0x80, group1("Eb Ib"));
  t.put(MAP_ONE, 0x81, group1("Ev Iz"));
  t.put(MAP_ONE, 0x83, group1("Ev Ib"));
  t.one(0x84, "test", "Eb Gb", alu.testEG);
  t.one(0x85, "test", "Ev Gv", alu.testEG);
  t.one(0xa8, "test", "AL Ib", alu.testAI);
  t.one(0xa9, "test", "rAX Iz", alu.testAI);
  const group2 = (operands: string, lift: (n: number) => Lifter) =>
    t.both(
      "group 2",
      ["rol", "ror", "rcl", "rcr", "shl", "shr", "sal", "sar"].map((name, n) => t.entry(name, operands, lift(n))),
    );
  t.put(MAP_ONE, 0xc0, group2("Eb Ib", alu.shiftEI));
  t.put(MAP_ONE, 0xc1, group2("Ev Ib", alu.shiftEI));
  t.put(MAP_ONE, 0xd0, group2("Eb", alu.shiftE1));
  t.put(MAP_ONE, 0xd1, group2("Ev", alu.shiftE1));
  t.put(MAP_ONE, 0xd2, group2("Eb CL", alu.shiftECL));
  t.put(MAP_ONE, 0xd3, group2("Ev CL", alu.shiftECL));
  const group3 = (e: string, ib: string) =>
    t.both("group 3", [
      t.entry("test", `${e} ${ib}`, alu.testEI),
      t.entry("test", `${e} ${ib}`, alu.testEI),
      t.entry("not", e, alu.not, F_LOCK),
      t.entry("neg", e, alu.neg, F_LOCK),
      t.entry("mul", e, alu.mul),
      t.entry("imul", e, alu.imulE),
      t.entry("div", e, alu.div),
      t.entry("idiv", e, alu.idiv),
    ]);
  t.put(MAP_ONE, 0xf6, group3("Eb", "Ib"));
  t.put(MAP_ONE, 0xf7, group3("Ev", "Iz"));
  t.put(
    MAP_ONE,
    0xfe,
    t.both("group 4", [t.entry("inc", "Eb", alu.inc, F_LOCK), t.entry("dec", "Eb", alu.dec, F_LOCK)]),
  );
  const near = F_FORCE64;
  t.put(
    MAP_ONE,
    0xff,
    t.both("group 5", [
      t.entry("inc", "Ev", alu.inc, F_LOCK),
      t.entry("dec", "Ev", alu.dec, F_LOCK),
      t.entry("call", "Ev", control.callE, near),
      t.entry("callf", "Mp", system.farE(true), F_MEMORY),
      t.entry("jmp", "Ev", control.jmpE, near),
      t.entry("jmpf", "Mp", system.farE(false), F_MEMORY),
      t.entry("push", "Ev", move.pushE, F_DEFAULT64),
    ]),
  );
  for (let n = 0; n < 16; n++) t.one(0x40 + n, n < 8 ? "inc" : "dec", "Zv", alu.incZ, F_NO64);
  t.one(0x69, "imul", "Gv Ev Iz", alu.imulGEI);
  t.one(0x6b, "imul", "Gv Ev Ib", alu.imulGEI);
  t.two(0xaf, "imul", "Gv Ev", alu.imulGE);
  t.two(0xa4, "shld", "Ev Gv Ib", alu.shiftDouble(true, true));
  t.two(0xa5, "shld", "Ev Gv CL", alu.shiftDouble(true, false));
  t.two(0xac, "shrd", "Ev Gv Ib", alu.shiftDouble(false, true));
  t.two(0xad, "shrd", "Ev Gv CL", alu.shiftDouble(false, false));
  for (const [n, name] of ["bt", "bts", "btr", "btc"].entries()) {
    t.two(0xa3 + 8 * n, name, "Ev Gv", alu.bitEG(n), n === 0 ? 0 : F_LOCK);
  }
  const group8 = ["bt", "bts", "btr", "btc"].map((name, n) =>
    t.entry(name, "Ev Ib", alu.bitEI(n), n === 0 ? 0 : F_LOCK),
  );
  t.put(MAP_0F, 0xba, t.both("group 8", [null, null, null, null, ...group8]));
  t.two(0xbc, "bsf", "Gv Ev", alu.bsf);
  t.two(0xbd, "bsr", "Gv Ev", alu.bsr);
  t.put(MAP_0F, 0xb8, t.entry("popcnt", "Gv Ev", alu.popcnt), [PP_F3]);
  t.two(0xb0, "cmpxchg", "Eb Gb", alu.cmpxchg, F_LOCK);
  t.two(0xb1, "cmpxchg", "Ev Gv", alu.cmpxchg, F_LOCK);
  t.two(0xc0, "xadd", "Eb Gb", alu.xadd, F_LOCK);
  t.two(0xc1, "xadd", "Ev Gv", alu.xadd, F_LOCK);
  t.put(MAP_0F, 0xc7, t.group("group 9", [null, t.entry("cmpxchg8b", "Mq", alu.cmpxchgWide, F_LOCK)]));
}

function movement(t: TableBuilder): void {
  t.one(0x88, "mov", "Eb Gb", move.movEG);
  t.one(0x89, "mov", "Ev Gv", move.movEG);
  t.one(0x8a, "mov", "Gb Eb", move.movGE);
  t.one(0x8b, "mov", "Gv Ev", move.movGE);
  t.one(0x8c, "mov", "Ev Sw", move.movES);
  t.one(0x8d, "lea", "Gv M", move.lea);
  t.one(0x8e, "mov", "Sw Ew", system.movSE);
  t.put(MAP_ONE, 0x8f, t.both("group 1A", [t.entry("pop", "Ev", move.popE, F_DEFAULT64)]));
  t.one(0xa0, "mov", "AL Ob", move.movAO);
  t.one(0xa1, "mov", "rAX Ov", move.movAO);
  t.put(MAP_ONE, 0xa2, t.entry("mov", "Ob AL", move.movOA));
  t.one(0xa3, "mov", "Ov rAX", move.movOA);
  t.put(MAP_ONE, 0xc6, t.both("group 11", [t.entry("mov", "Eb Ib", move.movEI)]));
  t.put(MAP_ONE, 0xc7, t.both("group 11", [t.entry("mov", "Ev Iz", move.movEI)]));
  for (let n = 0; n < 8; n++) {
    t.one(0x50 + n, "push", "Zv", move.pushZ, F_DEFAULT64);
    t.one(0x58 + n, "pop", "Zv", move.popZ, F_DEFAULT64);
    t.one(0xb0 + n, "mov", "Zb Ib", move.movZI, F_BYTE);
    t.one(0xb8 + n, "mov", "Zv Iv", move.movZI);
    t.one(0x90 + n, "xchg", "Zv rAX", move.xchgZA);
    t.two(0xc8 + n, "bswap", "Zv", move.bswap);
  }
  // 90 is nop unless REX.B makes it xchg r8, rax; F3 90 is pause
  const exchange: Lifter = (x, i) => {
    if (i.rm !== 0) move.xchgZA(x, i);
  };
  t.one(0x90, "nop", "", exchange);
  t.put(
    MAP_ONE,
    0x90,
    t.entry("pause", "", (x, i) => {
      if (i.rm !== 0) move.xchgZA(x, i);
      else system.pause(x, i);
    }),
    [PP_F3],
  );
  t.one(0x63, "movsxd", "Gv Ed", move.extend(true, 4));
  t.one(0x68, "push", "Iz", move.pushI, F_DEFAULT64);
  t.one(0x6a, "push", "Ib", move.pushI, F_DEFAULT64);
  t.one(0x86, "xchg", "Eb Gb", move.xchgEG, F_LOCK);
  t.one(0x87, "xchg", "Ev Gv", move.xchgEG, F_LOCK);
  t.one(0x98, "cbw", "", move.cbw);
  t.one(0x99, "cwd", "", move.cwd);
  t.one(0x9e, "sahf", "", move.sahf);
  t.one(0x9f, "lahf", "", move.lahf);
  t.one(0xc8, "enter", "IwIb", move.enter, F_DEFAULT64);
  t.one(0xc9, "leave", "", move.leave, F_DEFAULT64);
  t.one(0xd7, "xlat", "", move.xlat);
  t.one(0xf5, "cmc", "", move.cmc);
  t.one(0xf8, "clc", "", move.setCarry(0));
  t.one(0xf9, "stc", "", move.setCarry(1));
  t.one(0xfc, "cld", "", move.cld);
  t.one(0xfd, "std", "", move.std);
  for (let cc = 0; cc < 16; cc++) {
    t.two(0x40 + cc, `cmov${CONDITIONS[cc]}`, "Gv Ev", move.cmov);
    t.two(0x90 + cc, `set${CONDITIONS[cc]}`, "Eb", move.setcc);
  }
  t.two(0xb6, "movzx", "Gv Eb", move.extend(false, 1));
  t.two(0xb7, "movzx", "Gv Ew", move.extend(false, 2));
  t.two(0xbe, "movsx", "Gv Eb", move.extend(true, 1));
  t.two(0xbf, "movsx", "Gv Ew", move.extend(true, 2));
  t.put(MAP_0F, 0xc3, t.entry("movnti", "My Gy", move.movnti), [PP_NONE]);
  t.two(0x0d, "prefetch", "Mv", move.ignored);
  // 18 to 1F: prefetches and hints, the operand unused (endbr64 among them)
  for (let n = 0x18; n < 0x20; n++) t.two(n, "nop", "Ev", move.ignored);
}

function transfers(t: TableBuilder): void {
  for (let cc = 0; cc < 16; cc++) {
    t.one(0x70 + cc, `j${CONDITIONS[cc]}`, "Jb", control.jcc, F_FORCE64);
    t.two(0x80 + cc, `j${CONDITIONS[cc]}`, "Jz", control.jcc, F_FORCE64);
  }
  t.one(0xe0, "loopne", "Jb", control.loop, F_FORCE64);
  t.one(0xe1, "loope", "Jb", control.loop, F_FORCE64);
  t.one(0xe2, "loop", "Jb", control.loop, F_FORCE64);
  t.one(0xe3, "jrcxz", "Jb", control.jrcxz, F_FORCE64);
  t.one(0xe8, "call", "Jz", control.callJ, F_FORCE64);
  t.one(0xe9, "jmp", "Jz", control.jmpJ, F_FORCE64);
  t.one(0xeb, "jmp", "Jb", control.jmpJ, F_FORCE64);
  t.one(0xc2, "ret", "Iw", control.ret, F_FORCE64);
  t.one(0xc3, "ret", "", control.ret, F_FORCE64);
  for (const [opcode, name, kind] of [
    [0xa4, "movs", control.STRING_MOVS],
    [0xa6, "cmps", control.STRING_CMPS],
    [0xaa, "stos", control.STRING_STOS],
    [0xac, "lods", control.STRING_LODS],
    [0xae, "scas", control.STRING_SCAS],
  ] as const) {
    t.one(opcode, `${name}b`, "", control.string(kind), F_BYTE);
    t.one(opcode + 1, name, "", control.string(kind));
  }
}

function systemInstructions(t: TableBuilder): void {
  t.one(0x6c, "insb", "", system.ins, F_BYTE);
  t.one(0x6d, "ins", "", system.ins);
  t.one(0x6e, "outsb", "", system.outs, F_BYTE);
  t.one(0x6f, "outs", "", system.outs);
  t.one(0x9c, "pushf", "", system.pushf, F_DEFAULT64);
  t.one(0x9d, "popf", "", system.popf, F_DEFAULT64);
  t.one(0xca, "retf", "Iw", system.farReturn);
  t.one(0xcb, "retf", "", system.farReturn);
  t.one(0xcc, "int3", "", system.int(1));
  t.one(0xcd, "int", "Ib", system.int(0));
  t.one(0xce, "into", "", system.int(2), F_NO64);
  t.one(0xcf, "iret", "", system.iret);
  for (const [opcode, out, byDx] of [
    [0xe4, false, false],
    [0xe6, true, false],
    [0xec, false, true],
    [0xee, true, true],
  ] as const) {
    const name = out ? "out" : "in";
    t.one(opcode, name, byDx ? "AL DX" : "AL Ib", system.inOut(out, byDx), F_BYTE);
    t.one(opcode + 1, name, byDx ? "rAX DX" : "rAX Ib", system.inOut(out, byDx));
  }
  t.one(0xf1, "int1", "", system.int(3));
  t.one(0xf4, "hlt", "", system.hlt);
  t.one(0xfa, "cli", "", system.cli);
  t.one(0xfb, "sti", "", system.sti);
  t.put(
    MAP_0F,
    0x00,
    t.both("group 6", [
      t.entry("sldt", "Ev", system.sldt),
      t.entry("str", "Ev", system.str),
      t.entry("lldt", "Ew", system.lldt),
      t.entry("ltr", "Ew", system.ltr),
      t.entry("verr", "Ew", system.verr),
      t.entry("verw", "Ew", system.verw),
    ]),
  );
  const group7: (X86Entry | null)[] = Array.from({ length: 80 }, () => null);
  group7[0] = t.entry("sgdt", "Ms", system.sgdt);
  group7[1] = t.entry("sidt", "Ms", system.sidt);
  group7[2] = t.entry("lgdt", "Ms", system.lgdt);
  group7[3] = t.entry("lidt", "Ms", system.lidt);
  group7[4] = group7[12] = t.entry("smsw", "Ev", system.smsw);
  group7[6] = group7[14] = t.entry("lmsw", "Ew", system.lmsw);
  group7[7] = t.entry("invlpg", "Mb", system.invlpg);
  const whole = (modrm: number, name: string, lift: Lifter) => {
    group7[16 + (modrm & 63)] = t.entry(name, "E", lift, F_REGISTER);
  };
  whole(0xc1, "vmcall", system.vmcall);
  whole(0xc8, "monitor", system.monitor);
  whole(0xc9, "mwait", system.mwait);
  whole(0xd0, "xgetbv", system.xgetbv);
  whole(0xd1, "xsetbv", system.xsetbv);
  whole(0xd9, "vmmcall", system.vmcall);
  whole(0xf8, "swapgs", system.swapgs);
  whole(0xf9, "rdtscp", system.rdtscp);
  // a whole-byte entry that is absent falls back to the form by reg
  t.put(MAP_0F, 0x01, t.group("group 7", group7));
  t.two(0x02, "lar", "Gv Ew", system.lar);
  t.two(0x03, "lsl", "Gv Ew", system.lsl);
  t.two(0x05, "syscall", "", system.syscall);
  t.two(0x06, "clts", "", system.clts);
  t.two(0x07, "sysret", "", system.sysret);
  t.two(0x08, "invd", "", system.wbinvd);
  t.two(0x09, "wbinvd", "", system.wbinvd);
  t.two(0x20, "mov", "Rq Cq", system.movFromControl, F_FORCE64);
  t.two(0x21, "mov", "Rq Dq", system.movFromDebug, F_FORCE64);
  t.two(0x22, "mov", "Cq Rq", system.movToControl, F_FORCE64);
  t.two(0x23, "mov", "Dq Rq", system.movToDebug, F_FORCE64);
  t.two(0x30, "wrmsr", "", system.wrmsr);
  t.two(0x31, "rdtsc", "", system.rdtsc);
  t.two(0x32, "rdmsr", "", system.rdmsr);
  t.two(0x33, "rdpmc", "", system.rdpmc);
  t.two(0x34, "sysenter", "", system.sysenter);
  t.two(0x35, "sysexit", "", system.sysexit);
  t.two(0xa0, "push fs", "", move.pushS(SEG_FS), F_DEFAULT64);
  t.two(0xa1, "pop fs", "", system.popS(SEG_FS), F_DEFAULT64);
  t.two(0xa2, "cpuid", "", system.cpuid);
  t.two(0xa8, "push gs", "", move.pushS(SEG_GS), F_DEFAULT64);
  t.two(0xa9, "pop gs", "", system.popS(SEG_GS), F_DEFAULT64);
  t.two(0xb2, "lss", "Gv Mp", system.loadFar(SEG_SS));
  t.two(0xb4, "lfs", "Gv Mp", system.loadFar(SEG_FS));
  t.two(0xb5, "lgs", "Gv Mp", system.loadFar(SEG_GS));
  t.one(0x06, "push es", "", move.pushS(SEG_ES), F_NO64);
  t.one(0x07, "pop es", "", system.popS(SEG_ES), F_NO64);
  t.one(0x16, "push ss", "", move.pushS(SEG_SS), F_NO64);
  t.one(0x17, "pop ss", "", system.popS(SEG_SS), F_NO64);
  t.one(0x1e, "push ds", "", move.pushS(SEG_DS), F_NO64);
  t.one(0x1f, "pop ds", "", system.popS(SEG_DS), F_NO64);
}

/** Group 15 (0F AE) without prefix and with F3; the memory forms of the first are fxsave and its kin. */
function group15(t: TableBuilder, memory: readonly (X86Entry | null)[]): void {
  const fence = t.entry("fence", "E", move.nop);
  const forms: (X86Entry | null)[] = [...memory];
  while (forms.length < 8) forms.push(null);
  forms.push(null, null, null, null, null, fence, fence, fence);
  t.put(MAP_0F, 0xae, t.group("group 15", forms), [PP_NONE]);
  const bases: (X86Entry | null)[] = Array.from({ length: 8 }, () => null);
  bases.push(
    t.entry("rdfsbase", "Ry", system.baseAccess(false, SEG_FS)),
    t.entry("rdgsbase", "Ry", system.baseAccess(false, SEG_GS)),
    t.entry("wrfsbase", "Ry", system.baseAccess(true, SEG_FS)),
    t.entry("wrgsbase", "Ry", system.baseAccess(true, SEG_GS)),
  );
  t.put(MAP_0F, 0xae, t.group("group 15", bases), [PP_F3]);
}

function build(): readonly (X86Entry | null)[] {
  const t = new TableBuilder();
  arithmetic(t);
  movement(t);
  transfers(t);
  systemInstructions(t);
  addSimd(t);
  group15(t, addFpu(t));
  return t.table;
}

/** Index (map << 10) | (mandatory prefix << 8) | opcode. */
export const X86_TABLE = build();
