/**
 * Random instructions for the differential tests: every entry of the opcode table, at every operand size, register and memory
 * forms, from a seed.
 */
import { DECODE_OK, decode, Instruction, PP_66, PP_F2, PP_F3 } from "../../../arch/x86/decode.ts";
import type { X86Entry } from "../../../arch/x86/lift/context.ts";
import { X86_TABLE } from "../../../arch/x86/table.ts";
import { type Case, READONLY, SCRATCH } from "./guest.ts";

/** xorshift32: small, seeded, the same everywhere. */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed | 0 || 1;
    for (let i = 0; i < 8; i++) this.u32();
  }
  u32(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return Math.imul(x, 0x9e3779b1) >>> 0;
  }
  below(n: number): number {
    return Math.floor((this.u32() / 4294967296) * n);
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
  /** A 64-bit value, often a telling one. */
  u64(): bigint {
    const full = (BigInt(this.u32()) << 32n) | BigInt(this.u32());
    switch (this.below(6)) {
      case 0:
        return BigInt.asUintN(64, BigInt(this.below(40) - 20));
      case 1: {
        const bit = 1n << BigInt(this.pick([7, 8, 15, 16, 31, 32, 62, 63]));
        return BigInt.asUintN(64, bit + BigInt(this.below(3) - 1));
      }
      case 2:
        return full & 0xffffffffn;
      default:
        return full;
    }
  }
}

/** One opcode to be tried: its place in the table, and a group's form. */
export interface Opcode {
  readonly map: number;
  readonly pp: number;
  readonly opcode: number;
  readonly form: number;
  readonly entry: X86Entry;
}

/** Names never tried on the host: privileged, control transfers, segments, time. */
const SKIP =
  /^(j|call|ret|int|iret|loop|in|out|ins|outs|hlt|cli|sti|syscall|sys|rdtsc|rdpmc|rdmsr|wrmsr|cpuid|clts|wbinvd|invd|invlpg|mov [cd]r|vm|mon|mwait|x[gs]etbv|swapgs|[ls][gi]dt|[ls]ldt|ltr|str$|smsw|lmsw|lar|lsl|ver|push fs|push gs|pop fs|pop gs|l[sfg]s|rd[fg]s|wr[fg]s|pushf|popf|pause|fx|ldmxcsr|stmxcsr|fwait|x87 env|maskmov|rcp|rsqrt|xlat)/;

/** The opcodes of the table that can run on a host in user mode. */
export function opcodes(wanted: (entry: X86Entry, map: number) => boolean): Opcode[] {
  const list: Opcode[] = [];
  for (let index = 0; index < X86_TABLE.length; index++) {
    const top = X86_TABLE[index];
    if (top === null || top === undefined) continue;
    const map = index >> 10;
    const pp = (index >> 8) & 3;
    const forms = top.group === null ? [top] : top.group.slice(0, 16);
    forms.forEach((entry, form) => {
      if (entry === null || entry.lift === null) return;
      // what the table holds for every prefix is tried without one
      const everywhere = [0, 1, 2, 3].every((p) => {
        const other = X86_TABLE[(map << 10) | (p << 8) | (index & 255)];
        return other === top;
      });
      if (everywhere && pp !== 0) return;
      if ((entry.flags & 16) !== 0 || SKIP.test(entry.name) || entry.operands.includes("Sw")) return;
      if (entry.operands.includes("Cq") || entry.operands.includes("Dq")) return;
      if (!wanted(entry, map)) return;
      list.push({ map, pp, opcode: index & 255, form: top.group === null ? -1 : form, entry });
    });
  }
  return list;
}

/**
 * The flags that the manuals define after an instruction (RFLAGS bits): the others are not compared with a host, whose
 * choice may differ from the library's.
 */
export function definedFlags(code: Uint8Array): number {
  const all = 0x8d5 | 0x400;
  instruction.bits = 64;
  if (decode(X86_TABLE, code, 0, code.length, instruction) !== DECODE_OK) return all;
  const name = instruction.entry!.name;
  const many =
    (instruction.entry!.operands.includes("CL") || (instruction.immLo & 63) !== 1) &&
    !/^E.$/.test(instruction.entry!.operands);
  switch (name) {
    case "shl":
    case "shr":
    case "sal":
    case "sar":
    case "shld":
    case "shrd":
      return all & ~(many ? 0x811 : 0x10);
    case "rol":
    case "ror":
    case "rcl":
    case "rcr":
      return many ? all & ~0x800 : all;
    case "mul":
    case "imul":
      return all & ~0xd4;
    case "div":
    case "idiv":
      return 0x400;
    case "bsf":
    case "bsr":
      return 0x440;
    default:
      return all;
  }
}

const instruction = new Instruction<X86Entry>();

/** What a host may do that the library does not claim: FISTTP, environments (their pointers), 16-bit double shifts past 16. */
function beyond(i: Instruction<X86Entry>): boolean {
  const name = i.entry!.name;
  const reg = (i.modrm >> 3) & 7;
  if (name === "x87") {
    if (i.mod !== 3 && reg === 1 && [0xdb, 0xdd, 0xdf].includes(i.opcode)) return true;
    if (i.mod !== 3 && (i.opcode === 0xd9 || i.opcode === 0xdd) && (reg === 4 || reg === 6)) return true;
    // transcendental functions: processors differ in the last bit
    return i.opcode === 0xd9 && i.modrm >= 0xf0 && ![0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xfa, 0xfc, 0xfd].includes(i.modrm);
  }
  if (name === "shld" || name === "shrd")
    return i.size === 2 && (i.entry!.operands.includes("CL") || (i.immLo & 31) > 16);
  return false;
}

/**
 * Bytes of one random instruction of an opcode. Memory operands are [r15 + ...], [r15 + index], or the address itself; r15 must
 * point into the scratch. Registers 4 (rsp) and 15 are not destinations. null: this try does not decode.
 */
export function encode(random: Random, o: Opcode, simd = false): number[] | null {
  for (let attempt = 0; attempt < 40; attempt++) {
    const bytes: number[] = [];
    if (o.pp === PP_66 || (!simd && random.below(4) === 0)) bytes.push(0x66);
    if (o.pp === PP_F3) bytes.push(0xf3);
    if (o.pp === PP_F2) bytes.push(0xf2);
    let rex = random.below(2) === 0 ? 0x40 | random.below(16) : 0;
    const memory = o.form >= 0 ? o.form < 8 : (o.entry.flags & 64) !== 0 || random.below(3) === 0;
    const indexed = random.below(3) === 0;
    if (o.entry.modrm && memory) rex |= 0x41; // base r15
    if (rex !== 0) bytes.push(rex);
    if (o.map > 0) bytes.push(0x0f);
    if (o.map === 2) bytes.push(0x38);
    if (o.map === 3) bytes.push(0x3a);
    bytes.push(o.opcode);
    if (o.entry.modrm) {
      const reg = o.form >= 0 ? o.form & 7 : random.below(8);
      if (!memory) bytes.push(0xc0 | (reg << 3) | random.below(8));
      else {
        const mod = random.below(3);
        if (indexed) {
          bytes.push((mod << 6) | (reg << 3) | 4, (random.below(4) << 6) | (random.below(8) << 3) | 7);
        } else bytes.push((mod << 6) | (reg << 3) | 7);
        if (mod === 1) bytes.push(random.below(256));
        if (mod === 2) bytes.push(random.below(256), random.below(4), 0, 0);
      }
    }
    for (let n = 0; n < 8; n++) bytes.push(random.below(256));
    instruction.bits = 64;
    if (decode(X86_TABLE, Uint8Array.from(bytes), 0, bytes.length, instruction) !== DECODE_OK) continue;
    if (instruction.entry !== o.entry || beyond(instruction)) continue;
    return bytes.slice(0, instruction.length);
  }
  return null;
}

/** A random state; r15 in the scratch, string and stack pointers too. */
export function randomCase(random: Random, code: readonly number[], aligned = false): Case {
  const gpr = new BigUint64Array(16);
  for (let n = 0; n < 16; n++) gpr[n] = random.u64();
  const place = () => {
    const kind = random.below(12);
    if (kind === 0) return BigInt(SCRATCH + 4096 - 8 + random.below(16));
    if (kind === 1) return BigInt(SCRATCH + 8192 - random.below(16));
    if (kind === 2) return BigInt(READONLY + random.below(4096));
    return BigInt(SCRATCH + 1024 + random.below(2048));
  };
  gpr[15] = place();
  if (aligned && random.below(8) !== 0) gpr[15] &= ~15n;
  gpr[4] = BigInt(SCRATCH + 2048 + 8 * random.below(64));
  gpr[5] = BigInt(SCRATCH + 4096 + 8 * random.below(64));
  gpr[6] = place();
  gpr[7] = place();
  // indexes are small, so that most addresses stay in the scratch
  if (random.below(3) !== 0) for (const n of [0, 1, 2, 3]) if (random.below(2)) gpr[n] = BigInt(random.below(256));
  const scratch = new Uint8Array(8192);
  for (let n = 0; n < 8192; n += 4) {
    const word = random.u32();
    scratch[n] = word;
    scratch[n + 1] = word >>> 8;
    scratch[n + 2] = word >>> 16;
    scratch[n + 3] = word >>> 24;
  }
  return {
    code: Uint8Array.from(code),
    gpr,
    rflags: 0x202 | (random.u32() & 0x8d5) | (random.below(8) === 0 ? 0x400 : 0),
    fx: null,
    scratch,
  };
}

/** String instructions with a repeat prefix: code and a count in rcx. */
export function repeatedString(random: Random): Case {
  const opcode = random.pick([0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf]);
  const code: number[] = [];
  if (random.below(4) === 0) code.push(0x66);
  if (random.below(6) === 0) code.push(0x67);
  code.push(random.pick([0xf3, 0xf2]));
  if (random.below(3) === 0) code.push(0x48);
  code.push(opcode);
  const c = randomCase(random, code);
  c.gpr[1] = BigInt(random.pick([0, 1, 2, 7, 64, 300, 1200, 5000]));
  c.gpr[6] = BigInt(SCRATCH + random.below(8192));
  c.gpr[7] = random.below(4) === 0 ? c.gpr[6]! + BigInt(random.below(9) - 4) : BigInt(SCRATCH + random.below(8192));
  // long runs of equal bytes for the compares
  if (random.below(2) === 0) c.scratch.fill(random.below(2) ? Number(c.gpr[0]! & 0xffn) : 0, 0, 8000);
  return c;
}

/** Arithmetic with conditions in between: what exercises flag liveness, fused compares and branches. Registers only. */
export function sequence(random: Random): Case {
  const register = () => random.pick([0, 1, 2, 3, 5, 6, 7, 8, 9, 14]);
  const one = (): number[] => {
    const size = random.below(4); // 8, 16, 32, 64 bits
    const d = register();
    const s = register();
    const prefix = size === 1 ? [0x66] : [];
    const rex = 0x40 | (size === 3 ? 8 : 0) | (s & 8 ? 4 : 0) | (d & 8 ? 1 : 0);
    const modrm = 0xc0 | ((s & 7) << 3) | (d & 7);
    const group = (n: number) => 0xc0 | (n << 3) | (d & 7);
    const w = size === 0 ? 0 : 1;
    const low = size === 0 ? [random.below(256)] : size === 1 ? [random.below(256), 0] : [random.below(256), 0, 0, 0];
    switch (random.below(12)) {
      case 0:
      case 1:
      case 2:
        return [...prefix, rex, random.below(8) * 8 + w, modrm];
      case 3:
        return [...prefix, rex, 0x80 + w, group(random.below(8)), ...low];
      case 4:
        return [...prefix, rex, 0x84 + w, modrm];
      case 5:
        return [...prefix, rex, 0xfe + w, group(random.below(2))];
      case 6:
        return [...prefix, rex, 0xf6 + w, group(2 + random.below(2))];
      case 7:
        return [...prefix, rex, 0xc0 + w, group(random.pick([0, 1, 4, 5, 7])), 1];
      case 8:
        return [rex, 0x0f, 0x90 | random.below(16), 0xc0 | (d & 7)];
      case 9:
        return [...prefix, rex, 0x0f, 0x40 | random.below(16), modrm];
      case 10:
        return [random.pick([0xf5, 0xf8, 0xf9, 0x98])];
      default:
        // mov
        return [...prefix, rex, 0x88 + w, modrm];
    }
  };
  const code: number[] = [];
  const count = 3 + random.below(20);
  for (let n = 0; n < count && code.length < 180; n++) {
    if (random.below(3) === 0) {
      const over = [...one(), ...(random.below(2) ? one() : [])];
      if (random.below(4) === 0) code.push(0x0f, 0x80 | random.below(16), over.length, 0, 0, 0);
      else code.push(0x70 | random.below(16), over.length);
      code.push(...over);
    } else code.push(...one());
  }
  return randomCase(random, code);
}

/** A random FXSAVE image: xmm of integers and of floats, x87 in MMX state or with a few numbers. */
export function randomFx(random: Random, x87 = false): Uint8Array {
  const fx = new Uint8Array(512);
  const view = new DataView(fx.buffer);
  view.setUint16(0, 0x37f, true);
  view.setUint32(24, 0x1f80 | (random.below(2) === 0 ? 0x20 : 0), true);
  for (let n = 0; n < 16; n++) {
    const kind = random.below(4);
    const at = 160 + 16 * n;
    for (let k = 0; k < 16; k += 4) view.setUint32(at + k, random.u32(), true);
    if (kind === 0) for (let k = 0; k < 16; k += 4) view.setFloat32(at + k, random.below(2000) / 8 - 100, true);
    if (kind === 1) for (let k = 0; k < 16; k += 8) view.setFloat64(at + k, random.below(20000) / 16 - 500, true);
    if (random.below(4) === 0) {
      // NaNs, infinities, denormals, the smallest and largest normals, zeros
      const special = random.pick([
        0x7f800000, 0x7fc00001, 0x7f800001, 1, 0x007fffff, 0x00800000, 0x7f7fffff, 0, 0x3f800000,
      ]);
      const high = random.pick([
        0x7ff00000, 0x7ff80000, 0x7ff00001, 0, 0x000fffff, 0x00100000, 0x7fefffff, 0x3ff00000, 0x36900000, 0x47efffff,
      ]);
      const sign = random.below(2) ? 0x80000000 : 0;
      if (random.below(2)) view.setUint32(at + 4 * random.below(4), special | sign, true);
      else view.setUint32(at + 4 + 8 * random.below(2), high | sign, true);
    }
    if (kind === 2 && random.below(2)) view.setBigUint64(at, BigInt(random.below(70)), true);
  }
  if (x87) {
    const top = random.below(8);
    view.setUint16(2, top << 11, true);
    for (let n = 0; n < 8; n++) {
      view.setUint32(32 + 16 * n, random.u32(), true);
      view.setUint32(36 + 16 * n, random.u32() | 0x80000000, true);
      view.setUint16(40 + 16 * n, 0x3ff0 + random.below(32) + (random.below(2) << 15), true);
      if (random.below(4) !== 0) fx[4] = fx[4]! | (1 << ((top + n) & 7));
    }
  } else {
    fx[4] = 0xff;
    for (let n = 0; n < 8; n++) {
      view.setUint32(32 + 16 * n, random.below(3) === 0 ? random.below(80) : random.u32(), true);
      view.setUint32(36 + 16 * n, random.below(3) === 0 ? 0 : random.u32(), true);
      view.setUint16(40 + 16 * n, 0xffff, true);
    }
  }
  return fx;
}
