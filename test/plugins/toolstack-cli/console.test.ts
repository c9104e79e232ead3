/** Consoles of several domains on one screen, input scripts, durations and tables. */
import { describe, expect, test } from "vitest";
import { Console, Multiplexer } from "../../../plugins/toolstack-cli/console.ts";
import { parseInputScript, ScriptRunner } from "../../../plugins/toolstack-cli/input-script.ts";
import { formatDuration, nearest, parseDuration, table } from "../../../plugins/toolstack-cli/units.ts";

const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");

describe("the screen", () => {
  function screen(...names: string[]): { mux: Multiplexer; text: () => string } {
    let text = "";
    const mux = new Multiplexer(names, (part) => {
      text += typeof part === "string" ? part : Buffer.from(part).toString("latin1");
    });
    return { mux, text: () => text };
  }

  test("shows whole lines with names in front, in the order of their ends", () => {
    const { mux, text } = screen("a", "long");
    mux.show("a", bytes("one "));
    mux.show("long", bytes("two\r\nthree"));
    mux.show("a", bytes("more\n\n"));
    mux.finish();
    expect(text()).toBe("long: two\na:    one more\na:    \nlong: three\n");
  });

  test("shows a prompt after a moment, and goes on behind it", async () => {
    const { mux, text } = screen("a", "b");
    mux.show("a", bytes("grub> "));
    await new Promise((resolve) => setTimeout(resolve, 120));
    expect(text()).toBe("a: grub> ");
    mux.show("a", bytes("ls\n"));
    mux.show("a", bytes("again> "));
    await new Promise((resolve) => setTimeout(resolve, 120));
    mux.show("b", bytes("other\n"));
    mux.finish();
    expect(text()).toBe("a: grub> ls\na: again> \nb: other\n");
  });

  test("input waits, in order, in the pieces that are asked for", () => {
    const console = new Console("a");
    let told = 0;
    console.type(bytes("abc"));
    console.onInput(() => void told++);
    console.type(bytes("de"));
    expect(told).toBe(2);
    expect(Buffer.from(console.read(2)).toString()).toBe("ab");
    expect(Buffer.from(console.read(9)).toString()).toBe("c");
    expect(Buffer.from(console.read(9)).toString()).toBe("de");
    expect(console.read(9)).toHaveLength(0);
    expect(console.type(new Uint8Array(2 << 20))).toBe(false);
  });
});

describe("input scripts", () => {
  const run = (text: string, names: string[] = ["g"]) => {
    const typed: string[] = [];
    const steps = parseInputScript(text, "s", names);
    const runner = new ScriptRunner(steps, names[0]!, (name, what) => typed.push(`${name}<${what}`));
    runner.start();
    return { runner, typed };
  };

  test("expect and send take turns", () => {
    const { runner, typed } = run("# hello\n\nexpect one>\nsend a\\n\nexpect one>\nsend b\\x03\\\\\n");
    runner.printed("g", "one");
    expect(typed).toEqual([]);
    runner.printed("g", "> ");
    expect(typed).toEqual(["g<a\n"]);
    runner.printed("g", "one>one>");
    expect(typed).toEqual(["g<a\n", "g<b\x03\\"]);
    expect(runner.pending).toBeNull();
  });

  test("one piece of output may fulfil several", () => {
    const { typed } = run("send x\nsend y");
    expect(typed).toEqual(["g<x", "g<y"]);
    const { runner, typed: more } = run("expect a\nsend 1\nexpect b\nsend 2");
    runner.printed("g", "ab");
    expect(more).toEqual(["g<1", "g<2"]);
  });

  test("nothing is typed before the start, nor is an expected text used twice", () => {
    const steps = parseInputScript("expect a\nsend 1\nexpect a\nsend 2", "s", ["g"]);
    const typed: string[] = [];
    const runner = new ScriptRunner(steps, "g", (_name, what) => typed.push(what));
    runner.printed("g", "a");
    expect(typed).toEqual([]);
    runner.start();
    expect(typed).toEqual(["1"]);
    expect(runner.pending).toMatchObject({ line: 3, kind: "expect" });
  });

  test("several domains: top to bottom, output of each kept apart", () => {
    const { runner, typed } = run("a: expect ready\nb: expect ready\nb: send go\na: send stop", ["a", "b"]);
    runner.printed("b", "ready");
    expect(typed).toEqual([]);
    runner.printed("a", "ready");
    expect(typed).toEqual(["b<go", "a<stop"]);
  });

  test("text beyond ASCII is UTF-8", () => {
    const { typed } = run("send é");
    expect(typed).toEqual(["g<\xc3\xa9"]);
  });
});

test.each([
  ["64s", 64e9],
  ["500ms", 5e8],
  ["1.5s", 15e8],
  ["2m", 120e9],
  ["10us", 1e4],
  ["7ns", 7],
  ["3", 3e9],
  ["0s", null],
  ["-1s", null],
  ["soon", null],
  ["1e3s", null],
])("the duration %s is %s ns", (text, ns) => {
  expect(parseDuration(text)).toBe(ns);
});

test("words that a slip of the fingers may have meant", () => {
  const words = ["memory", "maxmem", "weight", "cap", "extra"];
  expect(nearest("memroy", words)).toEqual(["memory"]);
  expect(nearest("wieght", words)).toEqual(["weight"]);
  expect(nearest("Cpa", words)).toEqual(["cap"]);
  expect(nearest("colour", words)).toEqual([]);
  expect(nearest("", words)).toEqual([]);
});

test("durations and tables for people", () => {
  expect([64e9, 1.5e9, 2e6, 1500, 12].map(formatDuration)).toEqual(["64 s", "1.5 s", "2 ms", "1.5 us", "12 ns"]);
  expect(
    table([
      ["NAME", "CPU"],
      ["a", "1.5"],
      ["long", "10"],
    ]),
  ).toBe("NAME  CPU\na     1.5\nlong   10\n");
  const wide = [
    ["NAME", "WHAT"],
    ["a-long-name", "words that need two lines"],
  ];
  expect(table(wide, 30)).toBe("NAME         WHAT\na-long-name  words that need\n             two lines\n");
  expect(table(wide, 5)).toContain("a-long-name  words\n             that\n");
});
