/** Privileged state: CSRs and what they ignore, traps, interrupts, the exits of a run, MMIO, atomics of several harts. */
import { describe, expect, it } from "vitest";
import {
  HART_BUDGET,
  HART_ECALL,
  HART_MMIO,
  HART_PAUSE,
  HART_WFI,
  IRQ_EXTERNAL,
  IRQ_LOCAL,
  IRQ_SOFTWARE,
  IRQ_TIMER,
  PRIVILEGE_S,
  PRIVILEGE_U,
} from "../../../arch/riscv64/cpu.ts";
import { asm } from "./assemble.ts";
import { MMIO, RAM, RAM_FRAME, Rig } from "./rig.ts";

const SSTATUS = 0x100;
const SIE = 0x104;
const STVEC = 0x105;
const SEPC = 0x141;
const SCAUSE = 0x142;
const STVAL = 0x143;
const SIP = 0x144;
const SATP = 0x180;
const HANDLER = RAM + 0x1000;
const UXL = 2n << 32n;

const nop = asm("addi");

describe.each(["interpreter", "oracle"] as const)("in tier %s", (tier) => {
  /** A rig with words at RAM, the handler an endless loop. */
  const start = (words: readonly number[]): Rig => {
    const rig = new Rig({ tier, hotSamples: 0 });
    rig.put(RAM, words);
    rig.put(HANDLER, [asm("jal")]);
    rig.setCsr(STVEC, BigInt(HANDLER));
    rig.hart.setPc(RAM, 0);
    return rig;
  };
  /** Cause, stval and sepc of the one exception of a program. */
  const trap = (rig: Rig, budget = 20): readonly bigint[] => {
    expect(rig.hart.run(budget)).toBe(HART_BUDGET);
    expect(rig.pc()).toBe(BigInt(HANDLER));
    return [rig.csr(SCAUSE), rig.csr(STVAL), rig.csr(SEPC)];
  };

  describe("CSRs", () => {
    /** Writes through an instruction, reads back through another. */
    const roundTrip = (csr: number, value: bigint): bigint => {
      const rig = start([asm("csrrw", { rd: 6, rs1: 5, imm: csr }), asm("csrrs", { rd: 7, imm: csr })]);
      rig.setX(5, value);
      rig.hart.run(2);
      expect(rig.csr(SCAUSE) === 2n && csr !== SCAUSE).toBe(false);
      return rig.x(7);
    };
    const ones = (1n << 64n) - 1n;
    it.each([
      ["sstatus", SSTATUS, ones, (1n << 63n) | UXL | 0xc6122n],
      ["sstatus", SSTATUS, 0n, UXL],
      ["sie", SIE, ones, 0xffff0222n],
      ["stvec", STVEC, ones, ones & ~2n],
      ["scounteren", 0x106, ones, 7n],
      ["senvcfg", 0x10a, ones, 1n],
      ["sscratch", 0x140, ones, ones],
      ["sepc", SEPC, ones, ones & ~1n],
      ["scause", SCAUSE, ones, ones],
      ["stval", STVAL, ones, ones],
      ["sip", SIP, ones, 2n],
      ["satp bare", SATP, 0x12345n, 0x12345n],
      ["satp, a mode that is not there", SATP, (10n << 60n) | 5n, 0n],
    ])("%s (%i) keeps of %i just %i", (_name, csr, value, want) => {
      expect(roundTrip(csr, value)).toBe(want);
    });
    it("sets and clears bits, and answers what was there", () => {
      const rig = start([
        asm("csrrs", { rd: 6, rs1: 5, imm: 0x140 }),
        asm("csrrc", { rd: 7, rs1: 6, imm: 0x140 }),
        asm("csrrwi", { rd: 8, rs1: 21, imm: 0x140 }),
        asm("csrrci", { rd: 9, rs1: 5, imm: 0x140 }),
        asm("csrrsi", { rd: 10, rs1: 0, imm: 0x140 }),
        // source and destination in one register
        asm("csrrw", { rd: 5, rs1: 5, imm: 0x140 }),
      ]);
      rig.setCsr(0x140, 0xf0n);
      rig.setX(5, 0xffn);
      rig.hart.run(6);
      expect([6, 7, 8, 9, 10, 5].map((n) => rig.x(n))).toEqual([0xf0n, 0xffn, 0x0fn, 21n, 16n, 16n]);
      expect(rig.csr(0x140)).toBe(0xffn);
    });
    it.each([
      ["of machine mode", 0x300, "csrrs", 0],
      ["of the hypervisor", 0x200, "csrrs", 0],
      ["that is none", 0x5c0, "csrrs", 0],
      ["stimecmp", 0x14d, "csrrw", 1],
      ["a counter that is not there", 0xc03, "csrrs", 0],
      ["a write to time", 0xc01, "csrrs", 1],
      ["a write to cycle", 0xc00, "csrrwi", 0],
      ["hstatus", 0x600, "csrrs", 0],
    ] as const)("an access to one %s is illegal", (_name, csr, op, rs1) => {
      const word = asm(op, { rd: 5, rs1, imm: csr });
      expect(trap(start([nop, word]))).toEqual([2n, BigInt(word >>> 0), BigInt(RAM + 4)]);
    });
    it("U-mode has only its own, and the counters that scounteren gives", () => {
      for (const csr of [SSTATUS, SEPC, SATP, 0x106]) {
        const rig = start([asm("csrrs", { rd: 5, imm: csr })]);
        rig.hart.privilege = PRIVILEGE_U;
        expect(trap(rig)[0]).toBe(2n);
        expect(rig.hart.privilege).toBe(PRIVILEGE_S);
      }
      for (const [csr, bit] of [
        [0xc00, 1n],
        [0xc01, 2n],
        [0xc02, 4n],
      ] as const) {
        const rig = start([asm("csrrs", { rd: 5, imm: csr }), asm("jal")]);
        rig.setCsr(0x106, 7n & ~bit);
        rig.hart.privilege = PRIVILEGE_U;
        expect(trap(rig)[0]).toBe(2n);
        rig.setCsr(0x106, bit);
        rig.hart.setPc(RAM, 0);
        rig.hart.privilege = PRIVILEGE_U;
        rig.hart.run(2);
        expect(rig.pc()).toBe(BigInt(RAM + 4));
      }
    });
    it("time is the caller's, instret counts, to the instruction", () => {
      const rig = start([
        asm("csrrs", { rd: 5, imm: 0xc01 }),
        nop,
        nop,
        asm("csrrs", { rd: 6, imm: 0xc02 }),
        nop,
        asm("csrrs", { rd: 7, imm: 0xc02 }),
      ]);
      rig.time = 0x1_2345_6789;
      rig.hart.run(6);
      expect(rig.x(5)).toBe(0x1_2345_6789n);
      expect(rig.x(7) - rig.x(6)).toBe(2n);
      expect(rig.x(6)).toBe(3n);
    });
    it("a run ends behind the instruction when a callback asks for it", () => {
      const rig = start([nop, asm("csrrs", { rd: 5, imm: 0xc01 }), nop]);
      const time = { asked: 0 };
      Object.defineProperty(rig, "time", {
        get: () => {
          time.asked++;
          rig.hart.requestStop();
          return 7;
        },
      });
      expect(rig.hart.run(100)).toBe(HART_BUDGET);
      expect([rig.hart.spent, rig.x(5), rig.pc()]).toEqual([2, 7n, BigInt(RAM + 8)]);
    });
  });

  describe("exceptions", () => {
    it.each([
      ["ebreak", [asm("ebreak")], [3n, BigInt(RAM), BigInt(RAM)]],
      ["c.ebreak", [0x9002], [3n, BigInt(RAM), BigInt(RAM)]],
      ["zeros", [0], [2n, 0n, BigInt(RAM)]],
      ["mret", [0x30200073], [2n, 0x30200073n, BigInt(RAM)]],
      ["a load of nothing", [asm("ld", { rd: 5, imm: 8 })], [5n, 8n, BigInt(RAM)]],
      ["a store to nothing", [asm("sd", { imm: -8 })], [7n, (1n << 64n) - 8n, BigInt(RAM)]],
      ["a jump to nothing", [asm("jalr", { rd: 1, imm: 0x100 })], [1n, 0x100n, 0x100n]],
      ["a misaligned lr", [asm("addi", { rd: 5, imm: 0x102 }), asm("lr.w", { rs1: 5 })], [4n, 0x102n, BigInt(RAM + 4)]],
      ["a misaligned sc", [asm("addi", { rd: 5, imm: 0x104 }), asm("sc.d", { rs1: 5 })], [6n, 0x104n, BigInt(RAM + 4)]],
      ["a misaligned amo", [asm("addi", { rd: 5, imm: 1 }), asm("amoadd.w", { rs1: 5 })], [6n, 1n, BigInt(RAM + 4)]],
      ["an amo on nothing", [asm("amoadd.w", { imm: 0 })], [7n, 0n, BigInt(RAM)]],
      ["an lr of nothing", [asm("lr.d")], [5n, 0n, BigInt(RAM)]],
    ])("%s", (_name, words, want) => {
      expect(trap(start(words))).toEqual(want);
    });
    it("save the mode and the interrupt enable, and sret restores them", () => {
      for (const privilege of [PRIVILEGE_U, PRIVILEGE_S]) {
        for (const sie of [0n, 2n]) {
          const rig = start([asm("ebreak"), asm("ecall")]);
          rig.put(HANDLER, [
            asm("csrrs", { rd: 5, imm: SSTATUS }),
            asm("csrrs", { rd: 6, imm: SEPC }),
            asm("addi", { rd: 6, rs1: 6, imm: 4 }),
            asm("csrrw", { rs1: 6, imm: SEPC }),
            asm("sret"),
          ]);
          rig.setCsr(SSTATUS, sie);
          rig.hart.privilege = privilege;
          rig.hart.run(6);
          expect(rig.x(5)).toBe(UXL | (sie !== 0n ? 0x20n : 0n) | (privilege === PRIVILEGE_S ? 0x100n : 0n));
          expect(rig.csr(SSTATUS)).toBe(UXL | sie | 0x20n);
          expect([rig.hart.privilege, rig.pc()]).toEqual([privilege, BigInt(RAM + 4)]);
        }
      }
    });
    it("ecall traps from U-mode and leaves from S-mode", () => {
      const rig = start([asm("ecall"), nop]);
      expect(rig.hart.run(10)).toBe(HART_ECALL);
      expect([rig.hart.spent, rig.pc()]).toEqual([1, BigInt(RAM + 4)]);
      rig.hart.setPc(RAM, 0);
      rig.hart.privilege = PRIVILEGE_U;
      expect(trap(rig)).toEqual([8n, 0n, BigInt(RAM)]);
    });
    it("sret, wfi and sfence.vma are S-mode's", () => {
      for (const name of ["sret", "wfi", "sfence.vma"]) {
        const rig = start([asm(name)]);
        rig.hart.privilege = PRIVILEGE_U;
        expect(trap(rig).slice(0, 2)).toEqual([2n, BigInt(asm(name))]);
      }
    });
    it("a vector that faults itself uses the budget up, and nothing else", () => {
      const rig = start([0]);
      rig.setCsr(STVEC, 0x4000n);
      expect(rig.hart.run(1000)).toBe(HART_BUDGET);
      expect([rig.hart.spent, rig.csr(SCAUSE), rig.pc()]).toEqual([1000, 1n, 0x4000n]);
    });
    it("an instruction across two pages faults on the second by its address", () => {
      const rig = start([]);
      rig.p2m.clear(0x80002);
      rig.guest.flush();
      rig.bytes(RAM + 0x1ffe, Uint8Array.from([0x13, 0x05]));
      rig.put(HANDLER, [asm("jal")]);
      rig.hart.setPc(RAM + 0x1ffe, 0);
      expect(trap(rig)).toEqual([1n, BigInt(RAM + 0x2000), BigInt(RAM + 0x1ffe)]);
    });
    it("a misaligned access works, and faults by the part that is not there", () => {
      const rig = start([asm("ld", { rd: 6, rs1: 5, imm: -4 }), asm("ld", { rd: 7, rs1: 5, imm: -3 })]);
      rig.put64(RAM + 0x2ff8, 0x1122334455667788n);
      rig.put64(RAM + 0x3000, 0x99aabbccddeeff00n);
      rig.setX(5, BigInt(RAM + 0x3000));
      rig.hart.run(1);
      expect(rig.x(6)).toBe(0xddeeff0011223344n);
      rig.p2m.clear(0x80003);
      rig.guest.flush();
      expect(trap(rig)).toEqual([5n, BigInt(RAM + 0x3000), BigInt(RAM + 4)]);
    });
    it("a store to a page that the P2m gives for reading is an access fault", () => {
      const rig = start([asm("lw", { rd: 6, rs1: 5 }), asm("sw", { rs1: 5 })]);
      rig.setX(5, BigInt(RAM + 0x5000));
      rig.p2m.set(0x80005, RAM_FRAME + 5, false);
      expect(trap(rig)).toEqual([7n, BigInt(RAM + 0x5000), BigInt(RAM + 4)]);
    });
  });

  describe("interrupts", () => {
    const idle = [asm("addi", { rd: 5, rs1: 5, imm: 1 }), asm("jal", { imm: -4 })];
    it("are taken by priority, when enabled, in S-mode only with SIE", () => {
      const rig = start(idle);
      for (const pin of [IRQ_LOCAL + 1, IRQ_LOCAL, IRQ_TIMER, IRQ_SOFTWARE, IRQ_EXTERNAL]) {
        expect(rig.hart.setPin(pin, true)).toBe(true);
      }
      expect([rig.hart.interruptPending, rig.hart.interruptDeliverable]).toEqual([false, false]);
      rig.hart.run(4);
      rig.setCsr(SIE, (1n << 64n) - 1n);
      expect([rig.hart.interruptPending, rig.hart.interruptDeliverable]).toEqual([true, false]);
      rig.hart.run(4);
      expect(rig.x(5)).toBe(4n);
      for (const cause of [IRQ_EXTERNAL, IRQ_SOFTWARE, IRQ_TIMER, IRQ_LOCAL, IRQ_LOCAL + 1]) {
        rig.setCsr(SSTATUS, 2n);
        rig.hart.setPc(RAM, 0);
        rig.hart.run(1);
        expect([rig.csr(SCAUSE), rig.csr(STVAL), rig.csr(SEPC), rig.pc()]).toEqual([
          (1n << 63n) | BigInt(cause),
          0n,
          BigInt(RAM),
          BigInt(HANDLER),
        ]);
        rig.hart.setPin(cause, false);
      }
      // U-mode is interrupted whatever SIE says
      rig.setCsr(SSTATUS, 0n);
      rig.hart.setPin(IRQ_TIMER, true);
      rig.hart.privilege = PRIVILEGE_U;
      expect(rig.hart.interruptDeliverable).toBe(true);
      rig.hart.run(1);
      expect(rig.hart.privilege).toBe(PRIVILEGE_S);
      expect(rig.hart.setPin(3, true)).toBe(false);
      expect(rig.hart.setPin(32, true)).toBe(false);
    });
    it("go to the vector of their cause where stvec says so; exceptions to its base", () => {
      const rig = start([nop, asm("ebreak")]);
      rig.setCsr(STVEC, BigInt(HANDLER) + 1n);
      rig.put(HANDLER + 4 * IRQ_LOCAL, [asm("jal")]);
      rig.hart.setPin(IRQ_LOCAL, true);
      rig.setCsr(SIE, 1n << BigInt(IRQ_LOCAL));
      rig.setCsr(SSTATUS, 2n);
      rig.hart.run(1);
      expect(rig.pc()).toBe(BigInt(HANDLER + 4 * IRQ_LOCAL));
      rig.hart.setPin(IRQ_LOCAL, false);
      rig.hart.setPc(RAM, 0);
      expect(trap(rig)[0]).toBe(3n);
    });
    it.each([
      ["csrrsi sstatus", [asm("csrrsi", { rs1: 2, imm: SSTATUS })]],
      ["csrrs sstatus", [asm("csrrs", { rs1: 6, imm: SSTATUS })]],
      ["csrrw sstatus", [asm("csrrw", { rs1: 6, imm: SSTATUS })]],
      ["csrrs sstatus with other bits", [asm("csrrs", { rs1: 7, imm: SSTATUS })]],
    ])("are taken right behind the instruction that lets them: %s", (_name, words) => {
      const rig = start([...words, nop, nop]);
      rig.setX(6, 2n);
      rig.setX(7, 0x40002n);
      rig.setCsr(SIE, 0x20n);
      rig.hart.setPin(IRQ_TIMER, true);
      rig.hart.run(3);
      expect([rig.csr(SCAUSE), rig.csr(SEPC)]).toEqual([(1n << 63n) | 5n, BigInt(RAM + 4)]);
    });
    it("are taken behind sie, sip and sret likewise", () => {
      const check = (words: readonly number[], prepare: (rig: Rig) => void, sepc: number): void => {
        const rig = start([...words, nop, nop]);
        prepare(rig);
        rig.hart.run(4);
        expect([rig.csr(SCAUSE) >> 63n, rig.csr(SEPC)]).toEqual([1n, BigInt(sepc)]);
      };
      check(
        [asm("csrrw", { rs1: 6, imm: SIE })],
        (rig) => {
          rig.setX(6, 0x200n);
          rig.setCsr(SSTATUS, 2n);
          rig.hart.setPin(IRQ_EXTERNAL, true);
        },
        RAM + 4,
      );
      check(
        [asm("csrrsi", { rs1: 2, imm: SIP })],
        (rig) => {
          rig.setCsr(SIE, 2n);
          rig.setCsr(SSTATUS, 2n);
        },
        RAM + 4,
      );
      check(
        [asm("sret")],
        (rig) => {
          rig.setCsr(SIE, 2n);
          rig.hart.setPin(IRQ_SOFTWARE, true);
          rig.setCsr(SSTATUS, 0x20n);
          rig.setCsr(SEPC, BigInt(RAM + 8));
        },
        RAM + 8,
      );
    });
    it("csrrci sstatus keeps them out", () => {
      const rig = start([asm("csrrci", { rd: 6, rs1: 2, imm: SSTATUS }), ...idle]);
      rig.setCsr(SIE, 0x20n);
      rig.setCsr(SSTATUS, 2n);
      rig.hart.run(1);
      rig.hart.setPin(IRQ_TIMER, true);
      rig.hart.run(10);
      expect([rig.x(6), rig.csr(SSTATUS), rig.csr(SCAUSE)]).toEqual([UXL | 2n, UXL, 0n]);
    });
    it("wfi waits for what is enabled, whatever SIE says", () => {
      const rig = start([asm("wfi"), nop]);
      expect(rig.hart.run(10)).toBe(HART_WFI);
      expect([rig.hart.spent, rig.pc()]).toEqual([1, BigInt(RAM + 4)]);
      rig.setCsr(SIE, 0x20n);
      rig.hart.setPin(IRQ_TIMER, true);
      rig.hart.setPc(RAM, 0);
      expect(rig.hart.run(2)).toBe(HART_BUDGET);
      expect(rig.pc()).toBe(BigInt(RAM + 8));
    });
    it("pause leaves", () => {
      const rig = start([asm("pause")]);
      expect(rig.hart.run(10)).toBe(HART_PAUSE);
      expect([rig.hart.spent, rig.pc()]).toEqual([1, BigInt(RAM + 4)]);
    });
  });

  describe("MMIO", () => {
    it.each([
      ["lb", 1, 0x80n, (1n << 64n) - 0x80n],
      ["lbu", 1, 0x1ffn, 0xffn],
      ["lh", 2, 0x8001n, (1n << 64n) - 0x7fffn],
      ["lhu", 2, 0x8001n, 0x8001n],
      ["lw", 4, 0x80000000n, 0xffffffff80000000n],
      ["lwu", 4, 0x80000000n, 0x80000000n],
      ["ld", 8, 0x8877665544332211n, 0x8877665544332211n],
    ] as const)("%s", (name, size, answer, want) => {
      const rig = start([asm(name, { rd: 6, rs1: 5, imm: 16 }), nop]);
      rig.setX(5, BigInt(MMIO));
      expect(rig.hart.run(10)).toBe(HART_MMIO);
      expect(rig.hart.spent).toBe(0);
      expect(rig.hart.mmio).toMatchObject({ gpaLo: MMIO + 16, gpaHi: 0, size, write: false });
      // nobody has answered
      expect(rig.hart.run(10)).toBe(HART_MMIO);
      rig.hart.finishMmio(Number(answer & 0xffffffffn), Number(answer >> 32n));
      expect(rig.hart.run(2)).toBe(HART_BUDGET);
      expect([rig.x(6), rig.pc()]).toEqual([want, BigInt(RAM + 8)]);
    });
    it.each([
      ["sb", 1, 0x11n],
      ["sh", 2, 0x2211n],
      ["sw", 4, 0x44332211n],
      ["sd", 8, 0x8877665544332211n],
    ] as const)("%s", (name, size, value) => {
      const rig = start([asm(name, { rs1: 5, rs2: 6, imm: -8 }), asm("lw", { rd: 7, rs1: 5 })]);
      rig.setX(5, BigInt(MMIO + 16));
      rig.setX(6, 0x8877665544332211n);
      expect(rig.hart.run(10)).toBe(HART_MMIO);
      const { mmio } = rig.hart;
      expect(mmio).toMatchObject({ gpaLo: MMIO + 8, size, write: true });
      expect((BigInt(mmio.valueHi) << 32n) | BigInt(mmio.valueLo)).toBe(value);
      rig.hart.finishMmio(0, 0);
      // the next one is another access
      expect(rig.hart.run(10)).toBe(HART_MMIO);
      expect([rig.hart.spent, mmio.write, mmio.size, mmio.gpaLo]).toEqual([1, false, 4, MMIO + 16]);
    });
    it("is asked once, though an interrupt is pending", () => {
      const rig = start([asm("lw", { rd: 6, rs1: 5 }), nop]);
      rig.setX(5, BigInt(MMIO));
      rig.setCsr(SIE, 0x200n);
      rig.setCsr(SSTATUS, 2n);
      expect(rig.hart.run(10)).toBe(HART_MMIO);
      rig.hart.setPin(IRQ_EXTERNAL, true);
      rig.hart.finishMmio(77, 0);
      rig.hart.run(2);
      expect([rig.x(6), rig.csr(SEPC), rig.csr(SCAUSE)]).toEqual([77n, BigInt(RAM + 4), (1n << 63n) | 9n]);
    });
    it("whose instruction another hart has changed meanwhile is not answered", () => {
      const rig = start([asm("lw", { rd: 6, rs1: 5 }), asm("lw", { rd: 7, rs1: 5 })]);
      rig.setX(5, BigInt(MMIO));
      expect(rig.hart.run(10)).toBe(HART_MMIO);
      rig.put(RAM, [nop]);
      rig.hart.finishMmio(77, 0);
      expect(rig.hart.run(10)).toBe(HART_MMIO);
      expect([rig.hart.spent, rig.pc()]).toEqual([1, BigInt(RAM + 4)]);
      // and by its page
      rig.p2m.set(MMIO / 4096, RAM_FRAME + 3);
      rig.guest.flush();
      rig.put64(RAM + 0x3000, 5n);
      rig.hart.finishMmio(78, 0);
      expect(rig.hart.run(1)).toBe(HART_BUDGET);
      expect([rig.x(6), rig.x(7)]).toEqual([0n, 5n]);
    });
    it("that nobody answers for, of two pages, or atomic, is an access fault", () => {
      const rig = start([asm("lw", { rd: 6, rs1: 5 })]);
      rig.setX(5, BigInt(MMIO));
      expect(rig.hart.run(10)).toBe(HART_MMIO);
      rig.hart.failMmio();
      expect(trap(rig)).toEqual([5n, BigInt(MMIO), BigInt(RAM)]);
      for (const [word, cause, offset] of [
        [asm("sd", { rs1: 5, imm: -4 }), 7n, -4],
        [asm("ld", { rd: 6, rs1: 5, imm: 0x7fc }), 5n, 0x7fc],
        [asm("amoadd.w", { rd: 6, rs1: 5 }), 7n, 0],
        [asm("lr.w", { rd: 6, rs1: 5 }), 5n, 0],
      ] as const) {
        const other = start([word]);
        // a page of MMIO that ends behind 0x800 bytes of what x5 points at
        other.p2m.setMmio(MMIO / 4096 + 1);
        other.setX(5, BigInt(offset === 0x7fc ? MMIO + 0x800 : offset === 0 ? MMIO : MMIO + 0x1000));
        expect(trap(other)[0]).toBe(cause);
      }
    });
  });

  describe("several harts", () => {
    const claim = [asm("lr.w", { rd: 6, rs1: 5 }), asm("sc.w", { rd: 7, rs1: 5, rs2: 8 })];
    it("an SC fails where another hart has run since, or somebody wrote", () => {
      const rig = start([...claim, asm("jal")]);
      const other = rig.guest.createHart();
      rig.put(RAM + 0x100, [asm("jal")]);
      other.setPc(RAM + 0x100, 0);
      const address = BigInt(RAM + 0x8000);
      rig.setX(5, address);
      rig.setX(8, 5n);
      rig.put64(Number(address), 1n);
      // in one go, and cut in two with nobody between
      for (const slices of [[2], [1, 1]]) {
        rig.put64(Number(address), 1n);
        rig.hart.setPc(RAM, 0);
        for (const n of slices) rig.hart.run(n);
        expect([rig.x(7), rig.get64(Number(address))]).toEqual([0n, 5n]);
      }
      rig.put64(Number(address), 1n);
      rig.hart.setPc(RAM, 0);
      rig.hart.run(1);
      other.run(1);
      rig.hart.run(1);
      expect([rig.x(7), rig.get64(Number(address))]).toEqual([1n, 1n]);
      // a device
      rig.hart.setPc(RAM, 0);
      rig.hart.run(1);
      rig.put64(Number(address), 9n);
      rig.hart.run(1);
      expect([rig.x(7), rig.get64(Number(address))]).toEqual([1n, 9n]);
      // a second SC, and one elsewhere
      rig.hart.setPc(RAM, 0);
      rig.hart.run(2);
      rig.hart.setPc(RAM + 4, 0);
      rig.hart.run(1);
      expect(rig.x(7)).toBe(1n);
      rig.hart.setPc(RAM, 0);
      rig.hart.run(1);
      rig.setX(5, address + 8n);
      rig.hart.run(1);
      expect(rig.x(7)).toBe(1n);
    });
    it("count to the same sum by LR and SC whatever the slices", () => {
      const words = [
        asm("lr.d", { rd: 6, rs1: 5 }),
        asm("addi", { rd: 6, rs1: 6, imm: 1 }),
        asm("sc.d", { rd: 7, rs1: 5, rs2: 6 }),
        asm("bne", { rs1: 7, imm: -12 }),
        asm("addi", { rd: 8, rs1: 8, imm: -1 }),
        asm("bne", { rs1: 8, imm: -20 }),
        asm("wfi"),
        asm("jal", { imm: -4 }),
      ];
      for (const slice of [7, 13, 100]) {
        const rig = start(words);
        const harts = [rig.hart, rig.guest.createHart(), rig.guest.createHart()];
        for (const hart of harts) {
          hart.setPc(RAM, 0);
          rig.setX(5, BigInt(RAM + 0x8000), hart);
          rig.setX(8, 50n, hart);
        }
        const done = new Set<number>();
        for (let n = 0; done.size < harts.length && n < 10_000; n++) {
          if (harts[n % 3]!.run(slice) === HART_WFI) done.add(n % 3);
        }
        expect(rig.get64(RAM + 0x8000)).toBe(150n);
      }
    });
  });

  it("a hart is saved and restored whole", () => {
    const rig = start([asm("csrrs", { rd: 6, imm: SSTATUS })]);
    for (let n = 1; n < 32; n++) rig.setX(n, BigInt(n) * 0x123456789abcdefn);
    for (let n = 0; n < 32; n++) rig.setF(n, BigInt.asUintN(64, BigInt(n) * -0x123456789abcdefn));
    rig.setCsr(SSTATUS, 0x46122n);
    rig.setCsr(SATP, (8n << 60n) | 0x80100n);
    rig.setCsr(3, 0x9fn);
    rig.hart.setPin(IRQ_EXTERNAL, true);
    rig.hart.privilege = PRIVILEGE_U;
    const image = rig.hart.save();
    const other = rig.guest.createHart();
    expect(other.restore(image)).toBe(true);
    expect(other.save()).toEqual(image);
    expect(other.describe()).toBe(rig.hart.describe());
    expect([other.privilege, other.pin(IRQ_EXTERNAL), rig.csr(3, other)]).toEqual([PRIVILEGE_U, true, 0x9fn]);
    expect(other.restore(image.subarray(8))).toBe(false);
    const wrong = image.slice();
    wrong[0] = 9;
    expect(other.restore(wrong)).toBe(false);
  });
});
