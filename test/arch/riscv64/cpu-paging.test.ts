/** Address translation: Sv39, Sv48 and the P2m, by cases and against an independent walk over hostile tables. */
import { describe, expect, it } from "vitest";
import { HART_MMIO, P2M_MMIO, P2M_NONE, PRIVILEGE_S, PRIVILEGE_U } from "../../../arch/riscv64/cpu.ts";
import { Hart } from "../../../arch/riscv64/hart.ts";
import { PTE_A, PTE_D, PTE_R, PTE_U, PTE_V, PTE_W, PTE_X } from "../../../arch/riscv64/mmu.ts";
import { P2m } from "../../../arch/riscv64/p2m.ts";
import { STATE } from "../../../arch/riscv64/state.ts";
import { ACCESS_EXECUTE, ACCESS_READ, ACCESS_WRITE } from "../../../arch/translate/ir.ts";
import { asm } from "./assemble.ts";
import { Random } from "./generate.ts";
import { MMIO, RAM, RAM_FRAME, RAM_FRAMES, Rig } from "./rig.ts";

const SSTATUS = 0x100;
const SATP = 0x180;
const SUM = 0x40000n;
const MXR = 0x80000n;
const ALL = PTE_V | PTE_R | PTE_W | PTE_X | PTE_A | PTE_D;
/** Page tables lie here; code of the tests at RAM. */
const TABLES = RAM + 0x100000;
const SV39 = 8n << 60n;
const SV48 = 9n << 60n;

const entry = (gpa: number, bits: number): bigint => ((BigInt(gpa) >> 12n) << 10n) | BigInt(bits);

class Paging extends Rig {
  #next = TABLES;
  /** A zeroed table; the guest's own physical address. */
  table(): number {
    const at = this.#next;
    this.#next += 4096;
    for (let n = 0; n < 512; n++) this.put64(at + 8 * n, 0n);
    return at;
  }
  readonly root: number = this.table();
  readonly levels: number;
  constructor(mode: bigint, tier: "interpreter" | "oracle" = "interpreter") {
    super({ tier, hotSamples: 0 });
    this.levels = mode === SV39 ? 3 : 4;
    this.setCsr(SATP, mode | (BigInt(this.root) >> 12n));
  }
  /** Where the entry of va at a level is; makes tables above it. */
  place(va: bigint, level: number): number {
    let table = this.root;
    for (let n = this.levels - 1; n > level; n--) {
      const at = table + 8 * Number((va >> BigInt(12 + 9 * n)) & 511n);
      if (this.get64(at) === 0n) this.put64(at, entry(this.table(), PTE_V));
      table = Number((this.get64(at) >> 10n) << 12n);
    }
    return table + 8 * Number((va >> BigInt(12 + 9 * level)) & 511n);
  }
  map(va: bigint, gpa: number, bits: number, level = 0): void {
    this.put64(this.place(va, level), entry(gpa, bits));
    this.hart.fence();
  }
  /** The gpa, or the exception's cause, of an access. */
  access(va: bigint, access: number): string {
    const [lo, hi] = [Number(BigInt.asIntN(32, va)), Number(BigInt.asIntN(32, va >> 32n))];
    const address = this.hart.translate(lo, hi, access);
    if (address >= 0) return `ok ${(address - RAM_FRAME * 4096 + RAM).toString(16)}`;
    return this.faultOf(va, access);
  }
  /** The cause, by doing it. */
  faultOf(va: bigint, access: number): string {
    const code = RAM;
    const satp = this.csr(SATP);
    // the code itself runs where it is mapped: at a page that every space here has
    const home = 0x7000n;
    if (access === ACCESS_EXECUTE) {
      this.setPc(va);
    } else {
      const bits = this.hart.privilege === PRIVILEGE_U ? ALL | PTE_U : ALL;
      this.map(home, code, bits);
      this.put(code, [access === ACCESS_READ ? asm("lb", { rd: 5, rs1: 6 }) : asm("sb", { rs1: 6, rs2: 0 })]);
      this.setX(6, va);
      this.setPc(home);
    }
    this.setCsr(0x142, 0n);
    this.setCsr(0x143, 0n);
    const { privilege } = this.hart;
    const status = this.csr(SSTATUS);
    const result = this.hart.run(1);
    if (result === HART_MMIO) {
      this.hart.failMmio();
      this.hart.run(1);
      expect(this.csr(0x142)).toBe(access === ACCESS_WRITE ? 7n : 5n);
    }
    this.setCsr(SSTATUS, status);
    this.hart.privilege = privilege;
    expect(this.csr(SATP)).toBe(satp);
    expect(this.csr(0x143)).toBe(BigInt.asUintN(64, va));
    if (result === HART_MMIO) return `mmio ${this.hart.mmio.gpaLo.toString(16)}`;
    return `cause ${this.csr(0x142)}`;
  }
}

describe.each([
  ["Sv39", SV39, 39],
  ["Sv48", SV48, 48],
] as const)("%s", (_name, mode, width) => {
  const low = 0x12345000n;
  const high = BigInt.asUintN(64, -0x12345000n);

  it("maps pages in both halves, and nothing between", () => {
    const p = new Paging(mode);
    p.map(low, RAM + 0x3000, ALL);
    p.map(high, RAM + 0x4000, ALL);
    expect(p.access(low + 0x123n, ACCESS_READ)).toBe(`ok ${(RAM + 0x3123).toString(16)}`);
    expect(p.access(high + 0xfffn, ACCESS_WRITE)).toBe(`ok ${(RAM + 0x4fff).toString(16)}`);
    expect(p.access(low, ACCESS_EXECUTE)).toBe(`ok ${(RAM + 0x3000).toString(16)}`);
    expect(p.access(low + 0x1000n, ACCESS_READ)).toBe("cause 13");
    expect(p.access(low + 0x1000n, ACCESS_WRITE)).toBe("cause 15");
    expect(p.access(low + 0x1000n, ACCESS_EXECUTE)).toBe("cause 12");
    // the upper bits must be copies of the top one
    for (const va of [low | (1n << BigInt(width)), low | (1n << 63n), low | (1n << BigInt(width - 1))]) {
      expect(p.access(va, ACCESS_READ), va.toString(16)).toBe("cause 13");
      expect(p.access(va, ACCESS_EXECUTE), va.toString(16)).toBe("cause 12");
    }
  });

  it("has superpages, which must be aligned", () => {
    for (let level = 1; level < (mode === SV39 ? 3 : 4); level++) {
      const p = new Paging(mode);
      const size = 1n << BigInt(12 + 9 * level);
      const va = size * 3n;
      // of a page of gigabytes only what is RAM is there
      const base = level === 1 ? RAM + 0x200000 : level === 2 ? RAM : 0;
      p.map(va, base, ALL, level);
      const offset = level === 1 ? 0x101234n : level === 2 ? 0x201234n : BigInt(RAM) + 0x201234n;
      expect(p.access(va + offset, ACCESS_READ)).toBe(`ok ${(base + Number(offset)).toString(16)}`);
      if (level < 3)
        expect(p.access(va + (level === 1 ? 0x1ff000n : 0x3fffe000n), ACCESS_READ)).toBe(
          level === 1 ? `ok ${(RAM + 0x3ff000).toString(16)}` : "cause 5",
        );
      p.map(va, base + 0x1000, ALL, level);
      expect(p.access(va + offset, ACCESS_READ)).toBe("cause 13");
    }
  });

  it("sfence.vma of one page is enough for the superpage it lies in", () => {
    const p = new Paging(mode);
    const va = 0x40000000n;
    p.map(va, RAM + 0x200000, ALL, 1);
    expect(p.access(va + 0x5000n, ACCESS_READ)).toBe(`ok ${(RAM + 0x205000).toString(16)}`);
    p.put64(p.place(va, 1), entry(RAM, ALL));
    p.hart.fencePage(0x40000000, 0);
    expect(p.access(va + 0x5000n, ACCESS_READ)).toBe(`ok ${(RAM + 0x5000).toString(16)}`);
  });

  it("reads, writes and executes by R, W, X; MXR makes what can be executed readable", () => {
    const p = new Paging(mode);
    for (const bits of [PTE_R, PTE_R | PTE_W, PTE_X, PTE_R | PTE_X, PTE_R | PTE_W | PTE_X]) {
      p.map(low, RAM + 0x3000, PTE_V | PTE_A | PTE_D | bits);
      const ok = `ok ${(RAM + 0x3000).toString(16)}`;
      expect(p.access(low, ACCESS_READ)).toBe((bits & PTE_R) !== 0 ? ok : "cause 13");
      expect(p.access(low, ACCESS_WRITE)).toBe((bits & PTE_W) !== 0 ? ok : "cause 15");
      expect(p.access(low, ACCESS_EXECUTE)).toBe((bits & PTE_X) !== 0 ? ok : "cause 12");
      p.setCsr(SSTATUS, MXR);
      expect(p.access(low, ACCESS_READ)).toBe(ok);
      expect(p.access(low, ACCESS_WRITE)).toBe((bits & PTE_W) !== 0 ? ok : "cause 15");
      p.setCsr(SSTATUS, 0n);
    }
    // W without R, alone and with X, is reserved; so are bits 54 to 63
    for (const bits of [PTE_W, PTE_W | PTE_X]) {
      p.map(low, RAM + 0x3000, PTE_V | PTE_A | PTE_D | bits);
      for (const [access, cause] of [
        [ACCESS_READ, 13],
        [ACCESS_WRITE, 15],
        [ACCESS_EXECUTE, 12],
      ] as const) {
        expect(p.access(low, access)).toBe(`cause ${cause}`);
      }
    }
    for (let bit = 54n; bit < 64n; bit++) {
      p.put64(p.place(low, 0), entry(RAM + 0x3000, ALL) | (1n << bit));
      p.hart.fence();
      expect(p.access(low, ACCESS_READ), String(bit)).toBe("cause 13");
    }
  });

  it("keeps user pages from S-mode but for SUM, never executes them there, and all others from U-mode", () => {
    const p = new Paging(mode);
    const ok = `ok ${(RAM + 0x3000).toString(16)}`;
    p.map(low, RAM + 0x3000, ALL | PTE_U);
    p.map(high, RAM + 0x3000, ALL);
    expect(p.access(low, ACCESS_READ)).toBe("cause 13");
    expect(p.access(low, ACCESS_WRITE)).toBe("cause 15");
    expect(p.access(low, ACCESS_EXECUTE)).toBe("cause 12");
    p.setCsr(SSTATUS, SUM);
    expect(p.access(low, ACCESS_READ)).toBe(ok);
    expect(p.access(low, ACCESS_WRITE)).toBe(ok);
    expect(p.access(low, ACCESS_EXECUTE)).toBe("cause 12");
    expect(p.access(high, ACCESS_EXECUTE)).toBe(ok);
    p.setCsr(SSTATUS, 0n);
    p.hart.privilege = PRIVILEGE_U;
    expect(p.access(low, ACCESS_EXECUTE)).toBe(ok);
    expect(p.access(low, ACCESS_WRITE)).toBe(ok);
    expect(p.access(high, ACCESS_READ)).toBe("cause 13");
    expect(p.access(high, ACCESS_EXECUTE)).toBe("cause 12");
    p.hart.privilege = PRIVILEGE_S;
  });

  it("faults where A is clear, and on a store where D is clear, and changes no entry", () => {
    const p = new Paging(mode);
    const ok = `ok ${(RAM + 0x3000).toString(16)}`;
    p.map(low, RAM + 0x3000, ALL & ~PTE_A);
    for (const [access, cause] of [
      [ACCESS_READ, 13],
      [ACCESS_WRITE, 15],
      [ACCESS_EXECUTE, 12],
    ] as const) {
      expect(p.access(low, access)).toBe(`cause ${cause}`);
    }
    p.map(low, RAM + 0x3000, ALL & ~PTE_D);
    expect(p.access(low, ACCESS_READ)).toBe(ok);
    expect(p.access(low, ACCESS_EXECUTE)).toBe(ok);
    expect(p.access(low, ACCESS_WRITE)).toBe("cause 15");
    expect(p.get64(p.place(low, 0))).toBe(entry(RAM + 0x3000, ALL & ~PTE_D));
  });

  it("a frame that the P2m does not have is an access fault, also of a table", () => {
    const p = new Paging(mode);
    p.map(low, RAM - 0x1000, ALL);
    for (const [access, cause] of [
      [ACCESS_READ, 5],
      [ACCESS_WRITE, 7],
      [ACCESS_EXECUTE, 1],
    ] as const) {
      expect(p.access(low, access)).toBe(`cause ${cause}`);
    }
    for (const gpa of [0x1000, MMIO, RAM + RAM_FRAMES * 4096, 2 ** 42, 2 ** 52]) {
      p.put64(p.place(low, 1), entry(gpa, PTE_V));
      p.hart.fence();
      expect(p.access(low, ACCESS_READ), gpa.toString(16)).toBe("cause 5");
      expect(p.access(low, ACCESS_EXECUTE), gpa.toString(16)).toBe("cause 1");
    }
    // a page of MMIO leaves the run, but is never executed
    p.put64(p.place(low, 1), 0n);
    p.map(low, MMIO, ALL);
    expect(p.access(low + 8n, ACCESS_READ)).toBe(`mmio ${(MMIO + 8).toString(16)}`);
    expect(p.access(low, ACCESS_EXECUTE)).toBe("cause 1");
  });
});

/** The walk once more, on BigInts, from the specification's steps. */
function reference(p: Paging, va: bigint, access: number, user: boolean, sum: boolean, mxr: boolean): string {
  const page = ["cause 13", "cause 15", "cause 12"][access]!;
  const fault = ["cause 5", "cause 7", "cause 1"][access]!;
  const width = BigInt(12 + 9 * p.levels);
  if (BigInt.asUintN(64, BigInt.asIntN(Number(width), va)) !== va) return page;
  const inRam = (gpa: bigint): boolean => gpa >= BigInt(RAM) && gpa < BigInt(RAM + RAM_FRAMES * 4096);
  let a = BigInt(p.root);
  for (let i = p.levels - 1; i >= 0; i--) {
    const at = a + 8n * ((va >> BigInt(12 + 9 * i)) & 511n);
    if (!inRam(at)) return fault;
    const pte = p.get64(Number(at));
    const has = (bit: number): boolean => (pte & BigInt(bit)) !== 0n;
    if (!has(PTE_V) || (has(PTE_W) && !has(PTE_R)) || pte >> 54n !== 0n) return page;
    const ppn = (pte >> 10n) & ((1n << 44n) - 1n);
    if (!has(PTE_R) && !has(PTE_X)) {
      if (has(PTE_A) || has(PTE_D) || has(PTE_U)) return page;
      a = ppn << 12n;
      continue;
    }
    if ((ppn & ((1n << BigInt(9 * i)) - 1n)) !== 0n) return page;
    if (user ? !has(PTE_U) : has(PTE_U) && (!sum || access === ACCESS_EXECUTE)) return page;
    const allowed = [has(PTE_R) || (mxr && has(PTE_X)), has(PTE_W), has(PTE_X)][access];
    if (!allowed || !has(PTE_A) || (access === ACCESS_WRITE && !has(PTE_D))) return page;
    const gpa = (ppn << 12n) | (va & ((1n << BigInt(12 + 9 * i)) - 1n));
    const gfn = p.p2m.get(Number(gpa >> 12n));
    if (gpa >> 42n !== 0n || gfn === P2M_NONE) return fault;
    if (gfn === P2M_MMIO) return access === ACCESS_EXECUTE ? fault : `mmio ${Number(gpa & 0xffffffffn).toString(16)}`;
    return `ok ${gpa.toString(16)}`;
  }
  return page;
}

describe("hostile tables", () => {
  it.each([
    ["Sv39", SV39],
    ["Sv48", SV48],
  ] as const)("%s agrees with the reference on random entries", (_name, mode) => {
    const p = new Paging(mode);
    const r = new Random(39);
    const tables = [p.root, ...Array.from({ length: 6 }, () => p.table())];
    const seen = new Map<string, number>();
    for (let round = 0; round < 1200; round++) {
      // few indexes, so that walks meet what is there; tables point at each other and at themselves
      const indexes = [0, 1, 255, 256, 511];
      for (const table of tables) {
        for (const index of indexes) {
          if (round > 0 && r.below(4) !== 0) continue;
          const gpa =
            r.below(4) === 0
              ? Number((r.u64() & ((1n << 56n) - 1n)) >> BigInt(r.below(40)))
              : r.below(8) === 0
                ? MMIO
                : r.below(3) === 0
                  ? RAM & ~0x3fffffff
                  : RAM + 0x200000 * r.below(2) + 4096 * (r.below(4) === 0 ? r.below(1024) : 0);
          const leaf = r.below(3) === 0;
          const bits = leaf
            ? (r.below(8) === 0 ? 0 : PTE_V) | (r.u32() & 0xfe) | (r.below(2) === 0 ? PTE_A | PTE_D | PTE_R : 0)
            : PTE_V | (r.below(12) === 0 ? r.u32() & 0xf0 : 0);
          const value =
            entry(leaf ? Math.floor(gpa / 4096) * 4096 : r.pick(tables), bits) |
            (r.below(30) === 0 ? 1n << BigInt(54 + r.below(10)) : 0n);
          p.put64(table + 8 * index, value);
        }
      }
      p.hart.fence();
      const sum = r.below(2) === 0;
      const mxr = r.below(2) === 0;
      const user = r.below(2) === 0;
      for (let n = 0; n < 6; n++) {
        let va = 0n;
        for (let level = 0; level < p.levels; level++) va |= BigInt(r.pick(indexes)) << BigInt(12 + 9 * level);
        va = BigInt.asUintN(64, BigInt.asIntN(12 + 9 * p.levels, va));
        if (r.below(20) === 0) va ^= 1n << BigInt(40 + r.below(24));
        // not where `faultOf` puts its code
        if (va >> 12n === 7n) continue;
        const access = r.below(3);
        p.setCsr(SSTATUS, (sum ? SUM : 0n) | (mxr ? MXR : 0n));
        p.hart.privilege = user ? PRIVILEGE_U : PRIVILEGE_S;
        const want = reference(p, va, access, user, sum, mxr);
        const [lo, hi] = [Number(BigInt.asIntN(32, va)), Number(BigInt.asIntN(32, va >> 32n))];
        const address = p.hart.translate(lo, hi, access);
        const got = address >= 0 ? `ok ${(address - RAM_FRAME * 4096 + RAM).toString(16)}` : describeFault(p);
        expect(`${va.toString(16)} ${access}: ${got}`).toBe(`${va.toString(16)} ${access}: ${want}`);
        const kind = want.split(" ")[0] === "cause" ? want : (want.split(" ")[0] ?? "");
        seen.set(kind, (seen.get(kind) ?? 0) + 1);
      }
    }
    // every outcome has been met
    expect([...seen.keys()].sort()).toEqual([
      "cause 1",
      "cause 12",
      "cause 13",
      "cause 15",
      "cause 5",
      "cause 7",
      "mmio",
      "ok",
    ]);
  });
});

function describeFault(p: Paging): string {
  if (!(p.hart instanceof Hart)) throw new Error("not our hart");
  const cells = p.hart.t;
  if (p.machine.engine.lastWalk === 2) return `mmio ${cells.get(STATE.at.walkGpa).toString(16)}`;
  return `cause ${cells.get(STATE.at.faultCause)}`;
}

describe("the P2m", () => {
  it("answers what it was told, refuses what cannot be, and gives its tables back", () => {
    const rig = new Rig();
    const given: number[] = [];
    const freed: number[] = [];
    let next = 1200;
    const p2m = new P2m(rig.memory, 2048, {
      allocate: () => {
        if (next >= 1204) return -1;
        given.push(next);
        return next++;
      },
      free: (frame) => freed.push(frame),
    });
    expect(p2m.get(5)).toBe(P2M_NONE);
    expect(p2m.set(5, 300)).toBe(true);
    expect([p2m.get(5), p2m.writable(5)]).toEqual([300, true]);
    expect(p2m.set(6, 301, false)).toBe(true);
    expect([p2m.get(6), p2m.writable(6)]).toEqual([301, false]);
    expect(p2m.setMmio(7)).toBe(true);
    expect(p2m.get(7)).toBe(P2M_MMIO);
    p2m.clear(5);
    p2m.clear(0x3fffffff);
    expect(p2m.get(5)).toBe(P2M_NONE);
    for (const [gfn, mfn] of [
      [-1, 1],
      [2 ** 30, 1],
      [Number.NaN, 1],
      [5, -1],
      [5, 2048],
      [5, Number.NaN],
    ] as const) {
      expect(p2m.set(gfn, mfn)).toBe(false);
    }
    // the fourth table is the last that there is
    expect(p2m.set(1024, 302)).toBe(true);
    expect(p2m.set(2048, 302)).toBe(false);
    expect(p2m.get(2048)).toBe(P2M_NONE);
    p2m.destroy();
    expect(freed).toEqual(given);
  });
});
