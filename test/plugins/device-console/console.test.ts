/** The console backend, driven by a scripted frontend through the real core. */
import { describe, expect, test } from "vitest";
import plugin from "../../../plugins/device-console/plugin.ts";
import { FAKE_ABIS } from "../../support/fake-arch.ts";
import { type ScriptedMachine, scriptedMachine } from "../../support/scripted-frontend.ts";
import { consoleFrontend } from "./frontend.ts";

async function boot(abi = FAKE_ABIS[0]!): Promise<ScriptedMachine> {
  const machine = await scriptedMachine({ plugins: [plugin], devices: [{ type: "console", spec: "" }], abi });
  await machine.run();
  return machine;
}

describe("console", () => {
  test.each(FAKE_ABIS)("prints and is typed at, $name", async (abi) => {
    const machine = await boot(abi);
    const guest = machine.guests[0]!;
    const terminal = machine.host.terminal(guest.domain, 0);
    const frontend = consoleFrontend(guest);
    frontend.print("hello\r\n");
    await machine.run();
    expect(terminal.text).toBe("hello\r\n");
    expect(guest.events(frontend.port)).toBe(1);
    terminal.type("ls\r");
    await machine.run();
    expect(frontend.typed()).toBe("ls\r");
    expect(guest.events(frontend.port)).toBe(2);
  });

  test("output crosses the ring's end, as often as it likes", async () => {
    const machine = await boot();
    const guest = machine.guests[0]!;
    const frontend = consoleFrontend(guest);
    let all = "";
    for (let i = 0; i < 9; i++) {
      const text = String.fromCharCode(97 + i).repeat(2048 - i);
      expect(frontend.print(text)).toBe(text.length);
      all += text;
      await machine.run();
    }
    expect(machine.host.terminal(guest.domain, 0).text).toBe(all);
  });

  test("input waits until the guest has read", async () => {
    const machine = await boot();
    const guest = machine.guests[0]!;
    const terminal = machine.host.terminal(guest.domain, 0);
    const frontend = consoleFrontend(guest);
    const text = Array.from({ length: 3000 }, (_, i) => String.fromCharCode(32 + (i % 90))).join("");
    terminal.type(text);
    await machine.run();
    expect(terminal.waiting).toBe(3000 - 1024);
    let got = "";
    for (let round = 0; round < 3; round++) {
      got += frontend.typed();
      await machine.run();
    }
    expect(got).toBe(text);
    expect(terminal.waiting).toBe(0);
  });

  test("indices wrap at 2^32", async () => {
    const machine = await boot();
    const guest = machine.guests[0]!;
    const frontend = consoleFrontend(guest);
    for (const index of ["out_cons", "out_prod", "in_cons", "in_prod"] as const) frontend.set(index, 0xffff_fffe);
    await machine.run();
    frontend.print("wrap");
    await machine.run();
    expect(machine.host.terminal(guest.domain, 0).text).toBe("wrap");
    expect(frontend.get("out_cons")).toBe(2);
  });

  test("wild indices close it with one line in the log, and its page is let go", async () => {
    const machine = await boot();
    const guest = machine.guests[0]!;
    const frontend = consoleFrontend(guest);
    frontend.set("out_prod", 2049);
    await machine.run();
    frontend.set("out_prod", 1);
    await machine.run();
    expect(machine.log.filter((line) => line.includes("wild"))).toHaveLength(1);
    expect(machine.host.terminal(guest.domain, 0).text).toBe("");
    expect(guest.domain.dying).toBe(false);
    machine.host.terminal(guest.domain, 0).type("nobody reads this");
    await machine.run();
  });
});
