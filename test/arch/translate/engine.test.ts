/** The engine on the toy architecture, through tier 0 and through the oracle: every test runs on both. */
import { describe, expect, it } from "vitest";
import {
  ACCESS_READ,
  ACCESS_WRITE,
  type EngineOptions,
  EXIT_ARCH,
  EXIT_BUDGET,
  EXIT_FAULT,
  HELPER_CONTINUE,
  HELPER_NEXT,
  type TranslateArch,
} from "../../../arch/translate/index.ts";
import { EXEC, READ, SPECIAL, ToyMachine, WRITE } from "./machine.ts";
import {
  ADCF,
  ADD,
  ADDF,
  ADDI,
  BNE,
  CALL,
  GETF,
  HELP,
  HLT,
  JMP,
  JMPR,
  LD,
  LDI,
  LONG,
  NOP,
  reg,
  SHL,
  ST,
  STB,
  STF,
  toy,
  toyHelpers,
  toyLayout,
  XCHG,
} from "./toy.ts";

describe.each(["interpreter", "oracle"] as const)("engine, tier %s", (tier) => {
  const machine = (arch: Partial<TranslateArch> = {}, options: Partial<EngineOptions> = {}): ToyMachine =>
    new ToyMachine(arch, { tier, ...options });

  it("runs a loop, links it, and counts exactly", () => {
    const m = machine();
    m.put(
      0,
      toy(LDI, 1, 0, 100),
      toy(LDI, 2),
      toy(ADDI, 2, 2, 3),
      toy(ADDI, 3, 3, 1),
      toy(BNE, 3, 1, -2),
      toy(HLT, 0, 0, 9),
    );
    expect(m.engine.run(m.vcpu, 1_000_000)).toBe(EXIT_ARCH);
    expect(m.detail()).toBe(9);
    expect(m.r(2)).toBe(300);
    expect(m.vcpu.retired).toBe(2 + 300);
    expect(m.pc()).toBe(20);
    expect(m.engine.stats.exits).toBeLessThan(6);
  });

  it("stops after exactly the budget, wherever it ends, with the flags exact", () => {
    const program = [
      toy(LDI, 1, 0, 50),
      toy(ADDF, 2, 2, 1),
      toy(ADDF, 4, 2, 3),
      toy(ADD, 5, 5, 4),
      toy(ADDF, 3, 3, 2),
      toy(ADDI, 6, 6, 1),
      toy(ADDF, 7, 7, 6),
      toy(BNE, 6, 1, -6),
      toy(HLT),
    ];
    const whole = machine();
    whole.put(0, ...program);
    whole.engine.run(whole.vcpu, 1_000_000);
    const end = whole.vcpu.bytes.slice(0, toyLayout.bytes);
    // Every prefix: compare one instruction at a time with a run at once of that length.
    const single = machine();
    single.put(0, ...program);
    for (let n = 1; n <= 40; n++) {
      single.engine.run(single.vcpu, 1);
      const atOnce = machine({}, { codeBytes: 65536 });
      atOnce.put(0, ...program);
      expect(atOnce.engine.run(atOnce.vcpu, n)).toBe(EXIT_BUDGET);
      expect(atOnce.vcpu.retired).toBe(n);
      expect(single.vcpu.retired).toBe(n);
      expect(atOnce.pc()).toBe(single.pc());
      for (const at of [reg(2), reg(3), reg(4), reg(7), toyLayout.at.flag]) {
        expect(atOnce.vcpu.get(at)).toBe(single.vcpu.get(at));
      }
    }
    let seed = 12345;
    const sliced = machine();
    sliced.put(0, ...program);
    for (let code = EXIT_BUDGET; code === EXIT_BUDGET; ) {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      code = sliced.engine.run(sliced.vcpu, (seed >>> 16) % 17);
    }
    expect(sliced.vcpu.retired).toBe(whole.vcpu.retired);
    for (let i = 0; i < 8; i++) expect(sliced.r(i)).toBe(new DataView(end.buffer).getUint32(reg(i), true));
  });

  it("keeps the flag that an op reads whose own flag dies", () => {
    const m = machine();
    // The second sum is replaced by its twin, as the third sets the flag anew; the twin reads what the first has set.
    m.put(0, toy(LDI, 1, 0, 5), toy(ADDF, 2, 1, 1), toy(ADCF, 3, 1, 1), toy(ADDF, 4, 1, 3), toy(HLT));
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect([m.r(2), m.r(3), m.r(4)]).toEqual([10, 20, 25]);
    expect(m.vcpu.get(toyLayout.at.flag)).toBe(25);
  });

  it("faults at the exact instruction, before it changes anything", () => {
    const m = machine();
    m.map(5, 21, READ);
    m.put(0, toy(LDI, 1, 0, 5), toy(SHL, 1, 1, 12), toy(NOP), toy(LD, 2, 1, 8), toy(NOP), toy(XCHG, 2, 1), toy(HLT));
    m.view.setUint32(21 * 4096 + 8, 77, true);
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_FAULT);
    expect(m.pc()).toBe(20);
    expect(m.vcpu.retired).toBe(5);
    expect(m.r(2)).toBe(77);
    expect(m.vcpu.get(toyLayout.at.faultAddress)).toBe(0x5000);
    expect(m.vcpu.get(toyLayout.at.faultAccess)).toBe(ACCESS_WRITE);
    m.map(5, 21, READ | WRITE);
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect(m.view.getUint32(21 * 4096, true)).toBe(77);
  });

  it("faults on a fetch, at its address", () => {
    const m = machine();
    m.map(2, 18, READ | WRITE);
    m.put(0, toy(LDI, 1, 0, 2), toy(SHL, 1, 1, 12), toy(JMPR, 0, 1));
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_FAULT);
    expect(m.pc()).toBe(0x2000);
    expect(m.vcpu.retired).toBe(3);
    expect(m.vcpu.get(toyLayout.at.faultAddress)).toBe(0x2000);
  });

  it("runs an instruction across two pages, and again when the second is mapped elsewhere", () => {
    const m = machine();
    m.put(0, toy(LDI, 5, 0, 1), toy(SHL, 5, 5, 12), toy(ADDI, 5, 5, -4), toy(JMPR, 0, 5));
    m.put(0xffc, toy(ADDI | LONG, 1, 1, 7), toy(HLT, 0, 0, 1));
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect([m.r(1), m.detail(), m.pc()]).toEqual([7, 1, 0x1002]);
    // Another frame behind page 1, with another continuation.
    m.engine.physical.set([0, 5, ...toy(HLT, 0, 0, 2)], 60 * 4096);
    m.map(1, 60, READ | EXEC);
    m.engine.flushPage(m.vcpu, 0x1000, 0);
    m.setPc(0xffc);
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect([m.r(1), m.detail()]).toEqual([12, 2]);
    // Without its second page the fetch faults there, with the pc at the instruction.
    m.map(1, 60, READ);
    m.engine.flushPage(m.vcpu, 0x1000, 0);
    m.setPc(0xffc);
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_FAULT);
    expect([m.pc(), m.vcpu.get(toyLayout.at.faultAddress)]).toEqual([0xffc, 0x1000]);
  });

  it("does not link to an instruction across two pages", () => {
    const m = machine();
    m.put(0xff0, toy(NOP), toy(ADDI, 2, 2, 1), toy(JMP, 0, 0, 1));
    m.put(0xffc, toy(ADDI | LONG, 1, 1, 7), toy(HLT, 0, 0, 1));
    for (let i = 0; i < 3; i++) {
      m.setPc(0xff0);
      expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    }
    expect(m.r(1)).toBe(21);
    m.engine.physical.set([0, 5, ...toy(HLT, 0, 0, 2)], 60 * 4096);
    m.map(1, 60, READ | EXEC);
    m.engine.flushPage(m.vcpu, 0x1000, 0);
    m.setPc(0xff0);
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect([m.r(1), m.detail()]).toEqual([26, 2]);
  });

  it("has the flags exact at a fault, where they would die behind it", () => {
    const m = machine();
    m.map(5, 21, 0);
    m.set(1, 0x5000);
    m.set(2, 3);
    m.put(0, toy(ADDF, 3, 2, 2), toy(LD, 4, 1), toy(ADDF, 3, 3, 3), toy(HLT));
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_FAULT);
    expect(m.vcpu.get(toyLayout.at.flag)).toBe(6);
  });

  it("has the flags exact behind a store that changes the next instruction", () => {
    const m = machine();
    // The store turns the first nop into getf; without it the flag would die in addf.
    m.set(1, 4);
    m.set(2, GETF | (9 << 8), NOP);
    m.set(4, 5);
    m.put(0, toy(STF, 2, 1, 4), toy(NOP), toy(NOP), toy(ADDF, 3, 4, 4), toy(HLT));
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect(m.r(9)).toBe((GETF | (9 << 8)) + 5);
    expect(m.vcpu.get(toyLayout.at.flag)).toBe(10);
  });

  it("crosses pages in loads and stores, writing nothing if the second may not be written", () => {
    const m = machine();
    m.map(4, 30, READ | WRITE);
    m.map(5, 40, READ | WRITE);
    m.set(1, 0x4ffd);
    m.set(2, 0x55443322, 0x99887766);
    m.put(0, toy(ST, 2, 1), toy(LD, 3, 1), toy(HLT));
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect([m.r(3), m.vcpu.get(reg(3) + 4)]).toEqual([0x55443322, 0x99887766]);
    // And again, with both pages in the TLBs.
    m.set(2, 0x55443322, 0x19887766);
    m.setPc(0);
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect([m.r(3), m.vcpu.get(reg(3) + 4)]).toEqual([0x55443322, 0x19887766]);
    expect(m.view.getUint8(40 * 4096 + 4)).toBe(0x19);
    expect(m.view.getUint8(40 * 4096)).toBe(0x55);
    m.map(5, 40, READ);
    m.engine.flushAll(m.vcpu);
    m.set(2, 0);
    m.setPc(0);
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_FAULT);
    expect(m.vcpu.get(toyLayout.at.faultAddress)).toBe(0x5000);
    expect(m.view.getUint8(30 * 4096 + 0xffd)).toBe(0x22);
  });

  it("sees a changed mapping only after a flush of the page", () => {
    const m = machine();
    m.set(1, 0x3000);
    m.view.setUint32(19 * 4096, 1, true);
    m.view.setUint32(50 * 4096, 2, true);
    m.put(0, toy(LD, 2, 1), toy(JMP, 0, 0, -1));
    m.engine.run(m.vcpu, 10);
    expect(m.r(2)).toBe(1);
    m.map(3, 50, READ);
    m.engine.flushPage(m.vcpu, 0x3000, 0);
    m.engine.run(m.vcpu, 10);
    expect(m.r(2)).toBe(2);
    m.map(3, 19, READ);
    m.engine.flushFrame(50);
    m.engine.run(m.vcpu, 10);
    expect(m.r(2)).toBe(1);
  });

  it("looks computed jumps up again after a flush", () => {
    const m = machine();
    m.set(1, 0x3000);
    m.put(0, toy(JMPR, 0, 1));
    m.put(0x3000, toy(ADDI, 2, 2, 1), toy(JMPR, 0, 0));
    m.engine.physical.set([...toy(ADDI, 3, 3, 1), ...toy(JMPR, 0, 0)], 50 * 4096);
    m.engine.run(m.vcpu, 30);
    expect([m.r(2), m.r(3)]).toEqual([10, 0]);
    // The same mapping: nothing is looked up in TypeScript again but the entry of the run.
    m.engine.flushAll(m.vcpu);
    const before = m.engine.stats.lookups;
    m.engine.run(m.vcpu, 30);
    expect([m.r(2), m.r(3)]).toEqual([20, 0]);
    if (tier === "interpreter") expect(m.engine.stats.lookups).toBe(before + 1);
    m.map(3, 50, EXEC);
    m.engine.flushPage(m.vcpu, 0x3000, 0);
    m.engine.run(m.vcpu, 30);
    expect([m.r(2), m.r(3)]).toEqual([20, 10]);
    m.map(3, 19, EXEC);
    m.engine.flushFrame(50);
    m.engine.run(m.vcpu, 30);
    expect([m.r(2), m.r(3)]).toEqual([30, 10]);
    m.map(3, 19, READ);
    m.engine.flushAll(m.vcpu);
    expect(m.engine.run(m.vcpu, 30)).toBe(EXIT_FAULT);
    expect([m.pc(), m.vcpu.get(toyLayout.at.faultAddress)]).toEqual([0x3000, 0x3000]);
  });

  it("runs code that a store has just changed: later, linked, and in the running block", () => {
    const m = machine();
    // The store at 4 rewrites the immediate of the instruction at 8, in the same block.
    m.set(1, 8 + 3);
    m.set(2, 42);
    m.put(0, toy(NOP), toy(STB, 2, 1), toy(LDI, 3, 0, 1), toy(HLT));
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect(m.r(3)).toBe(42);
    expect(m.vcpu.retired).toBe(3);
    // A nop right behind the store is rewritten.
    const n = machine();
    n.set(1, 4);
    n.set(2, LDI | (6 << 8) | (33 << 24));
    n.put(0, toy(ST, 2, 1), toy(NOP), toy(NOP), toy(HLT, 0, 0, 3));
    n.put(8, toy(NOP));
    n.set(2, LDI | (6 << 8) | (33 << 24), NOP);
    expect(n.engine.run(n.vcpu, 100)).toBe(EXIT_ARCH);
    expect(n.r(6)).toBe(33);
    expect(n.vcpu.retired).toBe(3);
    // A loop calls a function on another page and rewrites it each time round.
    const l = machine();
    l.set(1, 0x1003);
    l.set(5, 0x1000);
    l.set(6, 8);
    l.put(0, toy(ADDI, 4, 4, 1), toy(STB, 4, 1), toy(CALL, 15, 0, 2), toy(HLT), toy(JMPR, 0, 5));
    l.put(0x1000, toy(LDI, 3, 0, 0), toy(ADD, 7, 7, 3), toy(BNE, 4, 6, 2), toy(HLT, 0, 0, 5), toy(JMPR, 0, 0));
    expect(l.engine.run(l.vcpu, 10000)).toBe(EXIT_ARCH);
    expect(l.detail()).toBe(5);
    expect(l.r(7)).toBe(36);
  });

  it("keeps the flags exact where a store stops the block", () => {
    const m = machine();
    // addf before the store would be dead (addf after it), but the block stops behind the store.
    m.set(1, 12 + 3);
    m.set(2, 9);
    m.set(4, 5);
    m.put(
      0,
      toy(ADDF, 3, 4, 4),
      toy(STB, 2, 1),
      toy(NOP),
      toy(LDI, 8, 0, 1),
      toy(ADDF, 3, 3, 3),
      toy(GETF, 9),
      toy(HLT),
    );
    expect(m.engine.run(m.vcpu, 3)).toBe(EXIT_BUDGET);
    expect(m.vcpu.get(toyLayout.at.flag)).toBe(10);
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect([m.r(8), m.r(9)]).toEqual([9, 20]);
  });

  it("drops translations that a foreign write touches, and no others", () => {
    const m = machine();
    m.put(0, toy(LDI, 1, 0, 1), toy(JMP, 0, 0, 31));
    m.put(128, toy(LDI, 2, 0, 1), toy(HLT));
    m.engine.run(m.vcpu, 100);
    const before = m.engine.cache.translated;
    m.engine.physical[16 * 4096 + 128 + 3] = 7;
    m.engine.wroteFrame(16, 128 + 3, 128 + 4);
    m.engine.wroteFrame(16, 512, 4096);
    m.setPc(0);
    m.engine.run(m.vcpu, 100);
    expect(m.r(2)).toBe(7);
    expect(m.engine.cache.translated).toBe(before + 1);
    expect(m.engine.hasCode(16)).toBe(true);
    m.engine.wroteFrame(16);
    expect(m.engine.hasCode(16)).toBe(false);
  });

  it("acts on what helpers answer", () => {
    const seen: number[][] = [];
    const m = machine({
      helpers: (engine) =>
        toyHelpers([
          (state, op) => {
            const vcpu = engine.vcpuOf(state);
            seen.push([engine.retiredNow(vcpu, op), engine.u16[(op + 2) >> 1] ?? 0]);
            return HELPER_NEXT;
          },
          (state) => {
            engine.vcpuOf(state).set64(toyLayout.at.pc, 0x40, 0);
            return HELPER_CONTINUE;
          },
        ]),
    });
    m.put(0, toy(NOP), toy(HELP, 3, 0, 5), toy(ADDI, 1, 1, 1), toy(HELP, 0, 0, 0), toy(HELP, 0, 0, 1));
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_FAULT);
    expect([m.pc(), m.vcpu.retired, m.r(1)]).toEqual([16, 4, 1]);
    expect(seen).toEqual([[1, reg(3)]]);
    m.put(0x100, toy(NOP), toy(HELP, 0, 0, 2), toy(NOP));
    m.setPc(0x100);
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect([m.pc(), m.vcpu.retired]).toEqual([0x104, 5]);
    m.put(0x200, toy(HELP, 0, 0, 6), toy(NOP), toy(HLT, 0, 0, 1));
    m.put(0x40, toy(HELP, 0, 0, 0x43), toy(HELP, 0, 0, 0x44));
    m.setPc(0x200);
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect([m.pc(), m.vcpu.retired]).toEqual([0x48, 8]);
  });

  it("hands accesses to special pages over", () => {
    const seen: number[][] = [];
    const m = machine({
      special: (vcpu, access, bytes) => {
        seen.push([vcpu.get(toyLayout.at.slowAddress), access, bytes]);
        if (access === ACCESS_READ) vcpu.set64(toyLayout.at.slowValue, 0x1234, 0);
        else seen.push([vcpu.get(toyLayout.at.slowValue) & 255]);
        return vcpu.get(toyLayout.at.slowAddress) !== 0x9100;
      },
    });
    m.map(9, 0, READ | WRITE | SPECIAL);
    m.set(1, 0x9008);
    m.set(2, 0x77);
    m.put(0, toy(LD, 3, 1), toy(STB, 2, 1, 1), toy(LDI, 1, 0, 0x91 - 256), toy(HLT));
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    expect(m.r(3)).toBe(0x1234);
    expect(seen).toEqual([[0x9008, ACCESS_READ, 8], [0x9009, ACCESS_WRITE, 1], [0x77]]);
    m.set(1, 0x9100);
    m.setPc(0);
    expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_FAULT);
    expect(m.pc()).toBe(0);
  });

  it("starts over when the code area is full", () => {
    const m = machine({}, { codeBytes: 65536 });
    for (let page = 0; page < 32; page++) {
      for (let i = 0; i < 100; i++) m.put(page * 4096 + i * 8, toy(ADDI, 1, 1, 1), toy(JMP, 0, 0, 1));
      m.put(page * 4096 + 800, toy(ADDI, 2, 2, 1), toy(SHL, 3, 2, 12), toy(JMPR, 0, 3));
    }
    m.put(32 * 4096, toy(HLT, 0, 0, 1));
    expect(m.engine.run(m.vcpu, 1_000_000)).toBe(EXIT_ARCH);
    expect(m.r(1)).toBe(3200);
    expect(m.vcpu.retired).toBe(32 * 203);
    expect(m.engine.cache.epoch).toBeGreaterThan(0);
  });

  it("keeps a frame with very many names from holding ever more blocks, which each store beside its code looks at", () => {
    const m = machine({}, { codeBytes: 1 << 22 });
    m.vcpu.set(toyLayout.at.pages, 512);
    for (let page = 0; page < 512; page++) m.map(page, 20, READ | EXEC);
    const code = Array.from({ length: 8 }, () => [toy(ADDI, 1, 1, 1), toy(JMP, 0, 0, 1), toy(NOP)]).flat();
    m.engine.physical.set([...code, toy(HLT)].flat(), 20 * 4096);
    for (let page = 0; page < 512; page++) {
      m.setPc(page * 4096);
      expect(m.engine.run(m.vcpu, 100)).toBe(EXIT_ARCH);
    }
    expect(m.r(1)).toBe(512 * 8);
    expect(m.engine.stats.kills).toBeGreaterThanOrEqual(2048);
  });

  it("shares translations between vCPUs, with TLBs of their own", () => {
    const m = machine();
    const other = m.addVcpu();
    m.set(1, 0x3000);
    m.set(1, 0x3000, 0, other);
    m.put(0, toy(LD, 2, 1), toy(ADDI, 2, 2, 1), toy(ST, 2, 1), toy(JMP, 0, 0, -3));
    for (let i = 0; i < 10; i++) {
      m.engine.run(m.vcpu, 4);
      m.engine.run(other, 4);
    }
    expect(m.view.getUint32(19 * 4096, true)).toBe(20);
    const translated = m.engine.cache.translated;
    expect(translated).toBe(1);
    m.engine.destroyVcpu(other);
    expect(m.engine.createVcpu().base).toBe(other.base);
  });

  it("copies to and from the guest, page by page", () => {
    const m = machine();
    m.map(4, 30, READ | WRITE);
    m.map(5, 40, READ);
    const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);
    expect(m.engine.copyToGuest(m.vcpu, 0x4100, 0, bytes)).toBe(true);
    const back = new Uint8Array(100);
    expect(m.engine.copyFromGuest(m.vcpu, 0x4100, 0, back)).toBe(true);
    expect(back).toEqual(bytes);
    expect(m.engine.copyToGuest(m.vcpu, 0x4ff0, 0, bytes)).toBe(false);
    expect(m.engine.copyFromGuest(m.vcpu, 0x4ff0, 0, back)).toBe(true);
    expect(m.engine.copyFromGuest(m.vcpu, 64 * 4096 - 50, 0, back)).toBe(false);
    expect(m.engine.translate(m.vcpu, 0, 1, ACCESS_READ)).toBe(-1);
  });
});
