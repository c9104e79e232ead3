/** xl.cfg's syntax: values, separators, old forms, places of errors. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ConfigError } from "../../../core/errors.ts";
import { parseXlArgument, parseXlConfig, parseXlNumber, type XlValue } from "../../../plugins/toolstack-cli/xl-cfg.ts";

function values(text: string): Record<string, XlValue> {
  return Object.fromEntries([...parseXlConfig(text, "t.cfg")].map(([key, setting]) => [key, setting.value]));
}

describe("xl.cfg", () => {
  test("a config as people write it", () => {
    const text = `
# a guest
name = "deb"  # with a comment
kernel='/boot/vmlinuz'; ramdisk = "/boot/initrd"
memory = 0x100
vcpus=010
extra = "console=hvc0 root=/dev/xvda1 quiet # no comment"
disk = [ 'phy:/dev/vg/a,xvda,w',
         "b.img,raw,xvdb,r",   # the second
       ]
vif = [ '' ]
nested = [ [1, 2], [ "a", [ ] ] ]
on_crash = "preserve"
`;
    expect(values(text)).toEqual({
      name: "deb",
      kernel: "/boot/vmlinuz",
      ramdisk: "/boot/initrd",
      memory: 256,
      vcpus: 8,
      extra: "console=hvc0 root=/dev/xvda1 quiet # no comment",
      disk: ["phy:/dev/vg/a,xvda,w", "b.img,raw,xvdb,r"],
      vif: [""],
      nested: [
        [1, 2],
        ["a", []],
      ],
      on_crash: "preserve",
    });
  });

  test("line ends, blanks, empty files, several on a line", () => {
    expect(values("")).toEqual({});
    expect(values("\r\n  # only a comment\r\n")).toEqual({});
    expect(values("a=1\r\nb=2;c=3;;d=4;\r\n")).toEqual({ a: 1, b: 2, c: 3, d: 4 });
    expect(values("a = [\r\n1 ,\r\n2\r\n]")).toEqual({ a: [1, 2] });
  });

  test("a key given twice has its last value; += appends", () => {
    expect(values("a=1\na=2")).toEqual({ a: 2 });
    expect(values('extra="x"\nextra+=" y"\ndisk=["a"]\ndisk+=["b"]\nnew+=["c"]')).toEqual({
      extra: "x y",
      disk: ["a", "b"],
      new: ["c"],
    });
    expect(() => values('a="x"\na+=["y"]')).toThrow("t.cfg:2:1");
  });

  test("escapes", () => {
    expect(values(String.raw`a = "tab\t nl\n quote\" back\\ hex\x41 oct\101 other\q"`)).toEqual({
      a: 'tab\t nl\n quote" back\\ hexA octA otherq',
    });
  });

  test.each([
    ["0", 0],
    ["010", 8],
    ["0x1F", 31],
    ["4294967296", 4294967296],
    ["08", null],
    ["0x", null],
    ["1.5", null],
    ["-1", null],
    ["99999999999999999999", null],
  ])("the number %s is %s", (text, value) => {
    expect(parseXlNumber(text)).toBe(value);
  });

  test.each([
    ["a", "1:2"],
    ["= 3", "1:1"],
    ["a = 'x\nb = 1", "1:5"],
    ["a = 1\n\n  b = ]", "3:7"],
    ["a = [1 2]", "1:8"],
    ["a = [1,\n2", "1:5"],
    ["a = 1 b = 2", "1:7"],
    ["a = one", "1:5"],
  ])("the place of the error in %j is %s", (text, place) => {
    expect(() => parseXlConfig(text, "t.cfg")).toThrow(ConfigError);
    expect(() => parseXlConfig(text, "t.cfg")).toThrow(new RegExp(`^t\\.cfg:${place}: .*\\.$`));
  });

  test("arguments: the shell has taken the quotes", () => {
    expect(parseXlArgument("memory", "256")).toBe(256);
    expect(parseXlArgument("name", "deb")).toBe("deb");
    expect(parseXlArgument("name", "'deb'")).toBe("deb");
    expect(parseXlArgument("extra", "root=/dev/xvda quiet")).toBe("root=/dev/xvda quiet");
    expect(parseXlArgument("disk", "['a,raw,xvda,w']")).toEqual(["a,raw,xvda,w"]);
    expect(parseXlArgument("extra", "")).toBe("");
  });

  test("any text is a config or a ConfigError with a place, never anything else", () => {
    const pieces = fc.constantFrom(
      "a",
      "=",
      "1",
      "[",
      "]",
      ",",
      "'",
      '"',
      "\n",
      ";",
      "#",
      "\\",
      " ",
      "+=",
      "0x",
      "é",
      "\0",
    );
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 30 }), (parts) => {
        try {
          parseXlConfig(parts.join(""), "t.cfg");
        } catch (error) {
          if (!(error instanceof ConfigError) || !/^t\.cfg:\d+:\d+: /.test(error.message)) throw error;
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("what is written is read back", () => {
    const leaf = fc.oneof(fc.nat(), fc.string({ maxLength: 12 }));
    const tree = fc.letrec((tie) => ({
      value: fc.oneof({ maxDepth: 3 }, leaf, fc.array(tie("value"), { maxLength: 4 })),
    })).value as fc.Arbitrary<XlValue>;
    const write = (value: XlValue): string => {
      if (typeof value === "number") return String(value);
      if (typeof value === "object") return `[${value.map(write).join(", ")}]`;
      return `"${value.replace(/["\\\n]/g, (c) => (c === "\n" ? "\\n" : `\\${c}`))}"`;
    };
    fc.assert(
      fc.property(tree, (value) => {
        expect(values(`key = ${write(value)}`)).toEqual({ key: value });
      }),
      { numRuns: 500 },
    );
  });
});
