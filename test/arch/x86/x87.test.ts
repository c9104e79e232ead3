/** The x87 unit against an x86-64 CPU, and its images and MMX aliasing by hand. */
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import {
  executeX87,
  FXSAVE_BYTES,
  loadFxsave,
  operandBytes,
  storeFxsave,
  X87_DONE,
  X87_FAULT,
  X87_NO_STORE,
  X87State,
  X87Unit,
  x87Operation,
} from "../../../arch/x86/x87.ts";
import { hostCpu, recordedVendor } from "../../tools/softfloat-vectors/host.ts";
import { Random } from "../../tools/softfloat-vectors/random.ts";
import {
  allInstructions,
  makeX87Case,
  parseX87Vector,
  x87Difference,
  x87HostOutcome,
  x87Request,
  x87SoftOutcome,
} from "../../tools/softfloat-vectors/x87-cases.ts";

const recorded = readFileSync(new URL("../../fixtures/x87/vectors.txt", import.meta.url), "utf8")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"))
  .map(parseX87Vector);

describe("x87 recorded vectors", () => {
  it("cover every instruction", () => {
    const seen = new Set(recorded.map(({ test }) => `${test.opcode} ${test.modrm}`));
    for (const { opcode, modrm } of allInstructions()) expect(seen.has(`${opcode} ${modrm}`)).toBe(true);
  });
  for (let opcode = 0xd8; opcode <= 0xdf; opcode++) {
    it(opcode.toString(16), () => {
      const vectors = recorded.filter(({ test }) => test.opcode === opcode);
      const wrong = vectors.map(({ test, outcome }) => x87Difference(test, outcome, x87SoftOutcome(test)));
      expect(wrong.filter((text) => text !== undefined)).toEqual([]);
    });
  }
});

describe("this host's CPU", () => {
  const host = recordedVendor() ? hostCpu() : undefined;
  afterAll(() => host?.close());
  it.skipIf(host === undefined)("agrees on fresh random x87 states", () => {
    const seed = Date.now() % 2 ** 31;
    const random = new Random(seed);
    const cases = allInstructions().flatMap(({ opcode, modrm }) =>
      Array.from({ length: 6 }, () => makeX87Case(random, opcode, modrm)),
    );
    const answers = host?.run(cases.map(x87Request)) ?? [];
    const wrong: string[] = [];
    cases.forEach((test, index) => {
      const answer = answers[index];
      if (answer === undefined) throw new Error("an answer is missing");
      const text = x87Difference(test, x87HostOutcome(answer), x87SoftOutcome(test));
      if (text !== undefined) wrong.push(`seed ${seed}: ${text}`);
    });
    expect(wrong).toEqual([]);
  });
});

function run(unit: X87Unit, opcode: number, modrm: number): number {
  const operation = x87Operation(opcode, modrm);
  if (operation === undefined) throw new Error(`no instruction ${opcode.toString(16)} ${modrm.toString(16)}`);
  return executeX87(unit, operation, modrm);
}

function freshUnit(): X87Unit {
  const unit = new X87Unit(new X87State());
  unit.state.initialise();
  return unit;
}

const ONE = 0x3fff_8000_0000_0000_0000n;

describe("pending exceptions", () => {
  it("an unmasked exception waits for the next waiting instruction", () => {
    const unit = freshUnit();
    unit.state.control = 0x37b;
    run(unit, 0xd9, 0xe8);
    run(unit, 0xd9, 0xee);
    // 1 / 0 with divide by zero unmasked: ST0 keeps the divisor.
    expect(run(unit, 0xdc, 0xf9)).toBe(X87_DONE);
    expect(unit.state.status & 0x80ff).toBe(0x8084);
    expect(unit.state.read(1)).toBe(ONE);
    expect(run(unit, 0xd9, 0xe8)).toBe(X87_FAULT);
    expect(run(unit, 0xdf, 0xe0)).toBe(X87_DONE);
    expect(unit.ax & 0x8084).toBe(0x8084);
    expect(run(unit, 0xdb, 0xe2)).toBe(X87_DONE);
    expect(run(unit, 0xd9, 0xe8)).toBe(X87_DONE);
  });

  it("a store with an unmasked stack fault writes nothing", () => {
    const unit = freshUnit();
    unit.state.control = 0x37e;
    expect(run(unit, 0xd9, 0x1f)).toBe(X87_NO_STORE);
    expect(unit.state.top).toBe(0);
  });
});

describe("environments", () => {
  const forms = [
    [{ wide: true, real: false }, 28],
    [{ wide: true, real: true }, 28],
    [{ wide: false, real: false }, 14],
    [{ wide: false, real: true }, 14],
  ] as const;
  for (const [form, bytes] of forms) {
    it(`FNSAVE and FRSTOR round trip, ${JSON.stringify(form)}`, () => {
      const unit = freshUnit();
      unit.form = form;
      run(unit, 0xd9, 0xeb);
      run(unit, 0xd9, 0xe8);
      run(unit, 0xd9, 0xee);
      unit.state.control = 0xb7b;
      unit.state.status |= 0x4104;
      unit.state.noteInstruction(0x123, 0x000a_bcde, 0);
      unit.state.noteData(0x0005_4321, 0);
      const before = Array.from({ length: 8 }, (_, i) => unit.state.read(i));
      const { control, tags } = unit.state;
      const status = unit.state.status | 0x8080;
      unit.state.updateSummary();
      expect(operandBytes(x87Operation(0xdd, 0x37) ?? never(), unit)).toBe(bytes + 80);
      expect(run(unit, 0xdd, 0x37)).toBe(X87_DONE);
      expect(unit.state.control).toBe(0x37f);
      expect(unit.state.tags).toBe(0);
      expect(run(unit, 0xdd, 0x27)).toBe(X87_DONE);
      expect([unit.state.control, unit.state.status, unit.state.tags]).toEqual([control, status, tags]);
      expect(Array.from({ length: 8 }, (_, i) => unit.state.read(i))).toEqual(before);
      const mask = form.wide ? 0xffff_ffff : form.real ? 0xf_ffff : 0xffff;
      expect(unit.state.pointer(unit.state.layout.instruction).lo).toBe(0x000a_bcde & mask);
      expect(unit.state.pointer(unit.state.layout.data).lo).toBe(0x0005_4321 & mask);
      expect(unit.state.opcode).toBe(form.wide || form.real ? 0x123 : 0);
    });
  }

  function never(): never {
    throw new Error("no such instruction");
  }

  it("FXSAVE and FXRSTOR round trip, and refuse reserved MXCSR bits", () => {
    const unit = freshUnit();
    const { state } = unit;
    run(unit, 0xd9, 0xeb);
    state.noteInstruction(0x7ff, 0x89ab_cdef, 0x0123_4567);
    state.noteData(0x5555_5555, 0xffff_8000);
    const sse = { view: new DataView(new ArrayBuffer(260)), mxcsr: 256, xmm: 0 };
    for (let i = 0; i < 256; i++) sse.view.setUint8(i, i);
    sse.view.setUint32(256, 0x1fa0, true);
    const image = new DataView(new ArrayBuffer(FXSAVE_BYTES));
    storeFxsave(state, sse, image, 0, true);
    expect(image.getUint16(0, true)).toBe(0x37f);
    expect(image.getUint8(4)).toBe(0x80);
    expect(image.getUint32(28, true)).toBe(0xffff);
    expect(image.getBigUint64(16, true)).toBe(0xffff_8000_5555_5555n);
    const other = new X87State();
    other.initialise();
    const otherSse = { view: new DataView(new ArrayBuffer(260)), mxcsr: 256, xmm: 0 };
    expect(loadFxsave(other, otherSse, image, 0, true)).toBe(true);
    expect(other.read(0)).toBe(state.read(0));
    expect(other.top).toBe(7);
    expect(otherSse.view).toEqual(sse.view);
    const again = new DataView(new ArrayBuffer(FXSAVE_BYTES));
    storeFxsave(other, otherSse, again, 0, true);
    expect(again).toEqual(image);
    image.setUint32(24, 0x1_0000, true);
    expect(loadFxsave(other, otherSse, image, 0, true)).toBe(false);
    expect(otherSse.view).toEqual(sse.view);
  });
});

describe("MMX", () => {
  it("aliases the significands and marks every register in use", () => {
    const unit = freshUnit();
    const { state } = unit;
    run(unit, 0xd9, 0xe8);
    state.enterMmx();
    expect([state.top, state.tags]).toEqual([0, 0xff]);
    state.writeMmx(3, 0x89ab_cdef, 0x0123_4567);
    expect(state.read(3)).toBe(0xffff_0123_4567_89ab_cdefn);
    state.leaveMmx();
    expect(state.fullTags).toBe(0xffff);
  });
});
