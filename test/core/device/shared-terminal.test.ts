/** One terminal, several devices: all write, one reads. */
import { expect, test } from "vitest";
import { SharedTerminal } from "../../../core/device/shared-terminal.ts";
import { RecordingTerminal } from "../../support/scripted-frontend.ts";

function user(shared: SharedTerminal) {
  const { terminal, leave } = shared.join();
  const got: string[] = [];
  return {
    got,
    leave,
    write: (text: string) => terminal.write(new TextEncoder().encode(text)),
    read: () => String.fromCharCode(...terminal.read(100)),
    /** Takes what there is whenever it is told. */
    listen: () =>
      terminal.onInput(() => {
        const text = String.fromCharCode(...terminal.read(100));
        if (text !== "") got.push(text);
      }),
  };
}

test("the first listener reads, until another one writes", () => {
  const below = new RecordingTerminal();
  const shared = new SharedTerminal(below);
  const [uart, hvc] = [user(shared), user(shared)];
  below.type("early");
  uart.listen();
  hvc.listen();
  below.type("one");
  uart.write("U-Boot ");
  expect([uart.got, hvc.got]).toEqual([["early", "one"], []]);
  expect(hvc.read()).toBe("");
  hvc.write("Linux");
  below.type("two");
  expect([uart.got, hvc.got]).toEqual([["early", "one"], ["two"]]);
  expect(uart.read()).toBe("");
  expect(below.text).toBe("U-Boot Linux");
});

test("one that never listens takes no input away by writing", () => {
  const below = new RecordingTerminal();
  const shared = new SharedTerminal(below);
  const [reader, printer] = [user(shared), user(shared)];
  reader.listen();
  printer.write("x");
  below.type("mine");
  expect(reader.got).toEqual(["mine"]);
});

test("what waits goes to the next one when the reader leaves; who has left is silent and deaf", () => {
  const below = new RecordingTerminal();
  const shared = new SharedTerminal(below);
  const [first, second] = [user(shared), user(shared)];
  second.leave();
  second.leave();
  second.listen();
  second.write("nothing");
  first.listen();
  first.leave();
  below.type("kept");
  expect(below.waiting).toBe(4);
  const third = user(shared);
  third.listen();
  expect(third.got).toEqual(["kept"]);
  expect([first.got, second.got, below.text]).toEqual([[], [], ""]);
});
