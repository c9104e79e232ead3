/** Specs of emulated devices. */
import { expect, test } from "vitest";
import { Settings } from "../../../plugins/lib-device/index.ts";

const KEYS = ["base", "line", "space"];
const of = (spec: string) => new Settings("Thing", spec, KEYS);

test("numbers, choices, defaults, blanks", () => {
  const settings = of(" base = 0x1000 ,line=7,,space=pio");
  expect(settings.required("base", 0, 2 ** 46)).toBe(0x1000);
  expect(settings.number("line", 0, 10, null)).toBe(7);
  expect(settings.choice("space", ["mmio", "pio"], "mmio")).toBe("pio");
  expect(of("").number("line", 0, 10, null)).toBeNull();
  expect(of("").choice("space", ["mmio", "pio"], "mmio")).toBe("mmio");
  expect([settings.has("line"), of("").has("line")]).toEqual([true, false]);
});

test.each([
  ["base", "Thing 'base': 'base' is no KEY=VALUE; there are base, line, space."],
  ["bas=1", "Thing 'bas=1': there is no parameter 'bas'; there are base, line, space."],
  ["base=1,base=1", "Thing 'base=1,base=1': it gives base twice."],
])("%s is refused", (spec, message) => {
  expect(() => of(spec)).toThrow(message);
});

test.each(["", "-1", "11", "1.5", "ten", "0x", "1e3", "99999999999999999999"])(
  "line=%s is no number from 0 to 10",
  (text) => {
    expect(() => of(`line=${text}`).number("line", 0, 10, null)).toThrow(
      `Thing 'line=${text}': line is '${text}'; it must be a number from 0 to 10.`,
    );
  },
);

test("what must be given, and what is no choice", () => {
  expect(() => of("line=1").required("base", 0, 1)).toThrow("Thing 'line=1': it gives no base.");
  expect(() => of("base=2").required("base", 0x10000, 0x20000)).toThrow("from 0x10000 to 0x20000");
  expect(() => of("space=io").choice("space", ["mmio", "pio"], "mmio")).toThrow("it must be mmio or pio.");
});
