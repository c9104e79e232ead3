/** The 16550A by its registers, as Linux' and U-Boot's drivers use it and as hostile guests do. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import plic from "../../../plugins/device-plic/plugin.ts";
import plugin from "../../../plugins/device-uart16550/plugin.ts";
import { parseUartSpec } from "../../../plugins/device-uart16550/uart.ts";
import { scriptedMachine } from "../../support/scripted-frontend.ts";

const BASE = 0x1000_0000;
const PLIC = 0xc00_0000;
const LINE = 10;
const [DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 3, 4, 5, 6, 7];
const FCR = IIR;

async function rig(spec = `base=0x10000000,line=${LINE},clock=3686400`) {
  const machine = await scriptedMachine({
    plugins: [plic, plugin],
    devices: [
      { type: "plic", spec: "" },
      { type: "uart16550", spec },
    ],
  });
  const guest = machine.guests[0]!;
  guest.ioWrite(PLIC + 4 * LINE, 1);
  guest.ioWrite(PLIC + 0x2000, 1 << LINE);
  const get = (register: number): number => guest.ioRead(BASE + register, 1);
  const set = (register: number, value: number): void => guest.ioWrite(BASE + register, value, 1);
  return {
    machine,
    guest,
    get,
    set,
    terminal: machine.host.terminal(guest.domain, 0),
    /** Is the line high? By the PLIC, which keeps a request until it is claimed. */
    irq: (): boolean => {
      const source = guest.ioRead(PLIC + 0x20_0004);
      guest.ioWrite(PLIC + 0x20_0004, source);
      const again = guest.ioRead(PLIC + 0x20_0004);
      guest.ioWrite(PLIC + 0x20_0004, again);
      return again === LINE;
    },
    drain: (): string => {
      let text = "";
      while ((get(LSR) & 1) !== 0) text += String.fromCharCode(get(DATA));
      return text;
    },
  };
}

describe("specs", () => {
  test("a board's and a PC's", () => {
    expect(parseUartSpec("base=0x10000000,line=10,clock=3686400")).toEqual({
      space: "mmio",
      base: BASE,
      line: 10,
      shift: 0,
      clock: 3686400,
      terminal: 0,
    });
    expect(parseUartSpec("space=pio,base=0x3f8,line=4")).toMatchObject({ space: "pio", base: 0x3f8, clock: 1843200 });
  });
  test.each([
    "",
    "line=10",
    "base=0x10000,space=pio",
    "base=0x3f8,space=pio,shift=2",
    "base=0,clock=0",
    "base=0,speed=1",
  ])("'%s' is refused", (spec) => {
    expect(() => parseUartSpec(spec)).toThrow(/^UART '.*\.$/);
  });
});

test("what is sent comes to the terminal; the transmitter is always empty", async () => {
  const { get, set, terminal, guest, machine } = await rig();
  expect(get(LSR)).toBe(0x60);
  for (const char of "hi\n") set(DATA, char.charCodeAt(0));
  expect(terminal.text).toBe("hi\n");
  expect(get(MSR)).toBe(0xb0);
  expect(guest.placed[1]).toEqual({
    type: "uart16550",
    id: 0,
    regions: [{ space: "mmio", base: BASE, size: 0x100 }],
    description: { compatible: ["ns16550a"], interrupts: [LINE], properties: { "clock-frequency": [3686400] } },
  });
  await machine.hypervisor.destroyDomain(guest.domain);
});

test("registers: divisor latch, scratch, masks, what is beyond", async () => {
  const { get, set, guest } = await rig();
  set(SCR, 0x5a);
  set(LCR, 0x83);
  set(DATA, 0x0d);
  set(IER, 0x01);
  expect([get(DATA), get(IER), get(LCR)]).toEqual([0x0d, 0x01, 0x83]);
  set(LCR, 0x03);
  set(IER, 0xff);
  set(MCR, 0xff);
  expect([get(IER), get(MCR), get(SCR), get(LCR)]).toEqual([0x0f, 0x1f, 0x5a, 0x03]);
  set(LSR, 0);
  set(MSR, 0);
  for (const offset of [8, 0x55, 0xff]) {
    set(offset, 0xff);
    expect(get(offset)).toBe(0);
  }
  // Linux' probe of a 16550A: FIFO bits that stay.
  set(FCR, 0x01);
  expect(get(IIR) & 0xf0).toBe(0xc0);
  set(FCR, 0x21);
  expect(get(IIR) & 0xf0).toBe(0xc0);
  set(FCR, 0);
  expect(get(IIR) & 0xf0).toBe(0);
  expect(guest.ioRead(BASE + 4, 4)).toBe(0x5af0_601f);
});

describe("interrupts", () => {
  test("an empty transmitter: asked for, told once, and again after each byte", async () => {
    const { get, set, irq } = await rig();
    set(IER, 2);
    expect([irq(), get(IIR), irq(), get(IIR)]).toEqual([true, 2, false, 1]);
    set(IER, 0);
    set(IER, 2);
    expect([irq(), get(IIR), irq()]).toEqual([true, 2, false]);
    set(DATA, 65);
    expect(irq()).toBe(true);
    set(IER, 0);
    expect([irq(), get(IIR)]).toEqual([false, 1]);
  });

  test("input without FIFO: one byte, the rest waits with the terminal", async () => {
    const { get, set, irq, terminal, drain } = await rig();
    set(IER, 1);
    terminal.type("abc");
    expect([irq(), get(IIR), terminal.waiting]).toEqual([true, 4, 2]);
    expect([get(DATA), irq()]).toEqual([97, true]);
    expect([drain(), irq(), get(IIR), get(DATA)]).toEqual(["bc", false, 1, 0]);
  });

  test("input with FIFO: trigger level, timeout after four characters", async () => {
    const { machine, get, set, irq, terminal, drain } = await rig();
    set(LCR, 0x83);
    set(DATA, 2); // 115200 baud: 4 characters are 347 us
    set(IER, 0);
    set(LCR, 0x03);
    set(FCR, 0xc1); // 14 bytes
    set(IER, 1);
    terminal.type("hello");
    expect([irq(), get(IIR)]).toEqual([false, 0xc1]);
    const start = machine.hypervisor.machine.now;
    await machine.run({ until: start + 347_000 });
    expect(irq()).toBe(false);
    await machine.run({ until: start + 348_000 });
    expect([irq(), get(IIR)]).toEqual([true, 0xcc]);
    expect([drain(), irq(), get(IIR)]).toEqual(["hello", false, 0xc1]);
    terminal.type("0123456789abcdefghij");
    expect([irq(), get(IIR), terminal.waiting]).toEqual([true, 0xc4, 4]);
    expect([drain(), irq()]).toEqual(["0123456789abcdefghij", false]);
    terminal.type("x");
    set(FCR, 0xc3);
    expect(drain()).toBe("");
    await machine.run();
    expect(irq()).toBe(false);
  });

  test("priorities: line status, input, transmitter, modem", async () => {
    const { get, set, irq } = await rig();
    set(MCR, 0x10);
    set(DATA, 1);
    set(DATA, 2); // overrun: there is no FIFO
    set(IER, 0x0f);
    expect([get(IIR), get(LSR) & 0x1f, get(LSR) & 2]).toEqual([6, 3, 0]);
    expect([get(IIR), get(DATA)]).toEqual([4, 2]);
    expect(get(IIR)).toBe(2);
    expect([get(IIR), irq()]).toEqual([0, true]);
    expect([get(MSR) & 0x0f, get(IIR), irq()]).toEqual([0x0b, 1, false]);
  });
});

test("loopback: modem lines, deltas, the FIFO's overrun, break; the terminal is cut off", async () => {
  const { get, set, terminal, drain } = await rig();
  set(MCR, 0x1a); // Linux' probe
  expect(get(MSR) & 0xf0).toBe(0x90);
  set(MCR, 0x1f);
  expect(get(MSR)).toBe(0xf2);
  set(MCR, 0x1b);
  expect(get(MSR)).toBe(0xb4);
  expect(get(MSR)).toBe(0xb0);
  set(FCR, 0x01);
  terminal.type("later");
  for (let i = 0; i < 18; i++) set(DATA, 65 + i);
  expect(get(LSR)).toBe(0x63);
  expect([drain(), terminal.text]).toEqual(["ABCDEFGHIJKLMNOP", ""]);
  set(LCR, 0x43);
  expect(get(LSR)).toBe(0xf1);
  expect(drain()).toBe("\0");
  set(MCR, 0);
  expect(drain()).toBe("later");
});

test("a guest that never looks leaves the input alone", async () => {
  const { terminal, drain } = await rig();
  terminal.type("for somebody else");
  expect(terminal.waiting).toBe(17);
  expect(drain()).toBe("for somebody else");
});

test("on I/O ports, with a second one on another terminal, and with registers four bytes apart", async () => {
  const machine = await scriptedMachine({
    plugins: [plugin],
    devices: [
      { type: "uart16550", spec: "space=pio,base=0x3f8" },
      { type: "uart16550", spec: "base=0x2000,shift=2,terminal=1" },
    ],
  });
  const guest = machine.guests[0]!;
  guest.ioWrite(0x3f8, 0x41, 1, "pio");
  guest.ioWrite(0x2000, 0x4242, 4);
  guest.ioWrite(0x201c, 0x99, 4);
  expect([guest.ioRead(0x3fd, 1, "pio"), guest.ioRead(0x2014), guest.ioRead(0x201c)]).toEqual([0x60, 0x60, 0x99]);
  expect([guest.ioRead(0x201d, 1), guest.ioRead(0x2012, 2)]).toEqual([0, 0]);
  expect(machine.host.terminal(guest.domain, 0).text).toBe("A");
  expect(machine.host.terminal(guest.domain, 1).text).toBe("B");
  expect(guest.placed.map((one) => [one.id, one.description!.interrupts, one.description!.properties])).toEqual([
    [0, [], { "clock-frequency": [1843200] }],
    [1, [], { "clock-frequency": [1843200], "reg-shift": [2] }],
  ]);
});

test("a line that the controller has not is refused when the device is attached", async () => {
  const devices = [
    { type: "plic", spec: "sources=8" },
    { type: "uart16550", spec: "base=0x1000,line=9" },
  ];
  await expect(scriptedMachine({ plugins: [plic, plugin], devices })).rejects.toThrow(
    "There is no interrupt line 9; the PLIC has lines 1 to 8.",
  );
});

test("random accesses never lose a byte of input, and the line is what IIR says", async () => {
  const access = fc.tuple(fc.nat(9), fc.option(fc.nat(255)), fc.constantFrom(1, 2, 4));
  await fc.assert(
    fc.asyncProperty(fc.array(access, { maxLength: 60 }), async (accesses) => {
      const { guest, get, set, terminal, irq, drain } = await rig();
      set(FCR, 1);
      for (const [offset, value, size] of accesses) {
        terminal.type("x");
        if (value === null) guest.ioRead(BASE + offset, size as 1 | 2 | 4);
        else guest.ioWrite(BASE + offset, value * 0x0101_0101, size as 1 | 2 | 4);
        const level = irq();
        expect((get(IIR) & 1) === 0).toBe(level);
      }
      set(LCR, 3);
      set(MCR, 0);
      set(FCR, 0);
      set(FCR, 3);
      drain();
      terminal.type("the end");
      expect(drain()).toBe("the end");
    }),
    { numRuns: 20, seed: 1 },
  );
});
