/** Emulated devices by the manager: what XenStore says of them, their neighbours, their interrupt controller, their end; stand-ins; shared terminals. */
import { describe, expect, test } from "vitest";
import type { DeviceHost, DeviceType, EmulatedDevice, InterruptController } from "../../../core/device/device-type.ts";
import { ConfigError, PluginError } from "../../../core/errors.ts";
import { definePlugin } from "../../../core/plugin.ts";
import { type ScriptedOptions, scriptedMachine } from "../../support/scripted-frontend.ts";

interface Log {
  readonly calls: string[];
  readonly hosts: Map<string, DeviceHost>;
}

/** A device of one region at the address that its spec says. */
function type(name: string, log: Log, more: Partial<EmulatedDevice> = {}, kind: "split" | "emulated" = "emulated") {
  const value: DeviceType<number> = {
    type: name,
    kind,
    parse: Number,
    deviceId: (base) => base,
    create(host, base) {
      log.hosts.set(`${name} ${host.domain.name}`, host);
      log.calls.push(`${name} after ${host.neighbours().map((one) => `${one.type}@${one.regions[0]!.base}`)}`);
      return {
        kind: "emulated",
        regions: [{ space: "mmio", base, size: 16 }],
        read: () => base,
        write: (_region, offset, _size, level) => host.interrupt(offset, level === 1),
        reset: () => {},
        describe: () => ({ compatible: [name], interrupts: [base] }),
        close: () => void log.calls.push(`${name} closed`),
        ...more,
      };
    },
  };
  return value;
}

const boot = (
  types: readonly DeviceType<number>[],
  options: Partial<ScriptedOptions> & { devices: ScriptedOptions["devices"] },
) =>
  scriptedMachine({
    ...options,
    plugins: [
      definePlugin({
        name: "test",
        api: "^1.0.0",
        apply: ({ hooks }) => {
          for (const one of types) hooks.deviceType.for(one.type).tap("test", () => one as DeviceType);
        },
      }),
    ],
  });

describe("an emulated device", () => {
  test("is told of its neighbours, answers the bus, is closed once, and XenStore knows nothing of it", async () => {
    const log: Log = { calls: [], hosts: new Map() };
    const machine = await boot([type("a", log), type("b", log)], {
      devices: [
        { type: "a", spec: "4096" },
        { type: "b", spec: "8192" },
      ],
    });
    const guest = machine.guests[0]!;
    expect(log.calls).toEqual(["a after ", "b after a@4096"]);
    expect(guest.placed.map(({ type, id, description }) => [type, id, description!.interrupts])).toEqual([
      ["a", 4096, [4096]],
      ["b", 8192, [8192]],
    ]);
    expect(guest.ioRead(8192)).toBe(8192);
    expect(guest.read("device/a")).toBeUndefined();
    expect(machine.hypervisor.store.client.exists("/local/domain/0/backend/a")).toBe(false);
    const [a] = machine.hypervisor.devices.list(guest.domain);
    machine.hypervisor.devices.detach(a!);
    await machine.run();
    expect(guest.ioRead(4096)).toBe(0xffff_ffff);
    await machine.hypervisor.destroyDomain(guest.domain);
    expect(log.calls.slice(2)).toEqual(["a closed", "b closed"]);
  });

  test("is closed when another device has its place, or when its type is of another kind", async () => {
    const log: Log = { calls: [], hosts: new Map() };
    const devices = [
      { type: "a", spec: "4096" },
      { type: "b", spec: "4100" },
    ];
    await expect(boot([type("a", log), type("b", log)], { devices })).rejects.toThrow(ConfigError);
    expect(log.calls.slice(2).sort()).toEqual(["a closed", "b closed"]);
    const wrong = boot([type("a", log, {}, "split")], { devices: devices.slice(0, 1) });
    await expect(wrong).rejects.toThrow(PluginError);
    await expect(wrong).rejects.toThrow(/must have the method probe/);
  });

  test("raises the lines of the one controller, which has the vCPU's pins", async () => {
    const log: Log = { calls: [], hosts: new Map() };
    const controller: InterruptController = {
      line(line, level) {
        const known = log.hosts.get("pic guest0")!.pin(line, 9, level);
        log.calls.push(`line ${line} ${level} ${known}`);
      },
    };
    const types = [type("pic", log, { controller }), type("a", log)];
    const devices = [
      { type: "pic", spec: "4096" },
      { type: "a", spec: "8192" },
    ];
    const machine = await boot(types, { devices, vcpus: 2 });
    const guest = machine.guests[0]!;
    guest.ioWrite(8193, 1);
    guest.ioWrite(8194, 1);
    expect(log.calls.slice(2)).toEqual(["line 1 true true", "line 2 true false"]);
    expect([guest.pin(0), guest.pin(1), guest.pin(2)]).toEqual([false, true, false]);
    await expect(machine.hypervisor.devices.attach(guest.domain, "pic", "12288")).rejects.toThrow(
      /has two interrupt controllers/,
    );
  });
});

test("a line is high while one of its devices holds it so; one that goes, or fails, lets go of it", async () => {
  const log: Log = { calls: [], hosts: new Map() };
  const controller: InterruptController = {
    line(line, level) {
      if (line > 8) throw new ConfigError(`There is no line ${line}.`);
      log.calls.push(`${line}${level ? "+" : "-"}`);
    },
  };
  const machine = await boot([type("pic", log, { controller }), type("a", log), type("b", log)], {
    devices: [
      { type: "pic", spec: "4096" },
      { type: "a", spec: "8192" },
      { type: "b", spec: "12288" },
    ],
  });
  const { domain } = machine.guests[0]!;
  const [a, b] = ["a", "b"].map((name) => log.hosts.get(`${name} guest0`)!);
  log.calls.length = 0;
  a!.interrupt(5, true);
  b!.interrupt(5, true);
  a!.interrupt(5, false);
  expect(log.calls).toEqual(["5+", "5+", "5+"]);
  b!.interrupt(6, true);
  expect(() => b!.interrupt(9, true)).toThrow("There is no line 9.");
  machine.hypervisor.devices.detach(machine.hypervisor.devices.list(domain)[2]!);
  await machine.run();
  expect(log.calls.slice(3)).toEqual(["6+", "b closed", "5-", "6-"]);
  a!.interrupt(7, true);
  await machine.hypervisor.destroyDomain(domain);
  expect(log.calls.slice(7)).toEqual(["7+", "pic closed", "a closed"]);
});

test("a device type may stand in for another in the domains of an arch", async () => {
  const log: Log = { calls: [], hosts: new Map() };
  const machine = await boot([type("a", log), type("b", log)], {
    devices: [
      { type: "a", spec: "4096" },
      { type: "toString", spec: "" },
    ].slice(0, 1),
    substitutes: { a: "b" },
  });
  const guest = machine.guests[0]!;
  await machine.hypervisor.devices.attach(guest.domain, "a", "8192");
  await machine.hypervisor.devices.attach(guest.domain, "b", "12288");
  expect(machine.hypervisor.devices.list(guest.domain).map((one) => one.type)).toEqual(["b", "b", "b"]);
  await expect(machine.hypervisor.devices.attach(guest.domain, "toString", "")).rejects.toThrow(
    /device type 'toString'/,
  );
});

test("devices of a domain share its terminal: the one that wrote last reads; one that is gone does not", async () => {
  const log: Log = { calls: [], hosts: new Map() };
  const machine = await boot([type("a", log), type("b", log)], {
    devices: [
      { type: "a", spec: "4096" },
      { type: "b", spec: "8192" },
    ],
  });
  const { domain } = machine.guests[0]!;
  const got: string[] = [];
  const [a, b] = ["a", "b"].map((name) => {
    const host = log.hosts.get(`${name} guest0`)!;
    const terminal = host.services.terminal(domain, 0);
    terminal.onInput(() => {
      for (const byte of terminal.read(100)) got.push(`${name}${byte}`);
    });
    return terminal;
  });
  const below = machine.host.terminal(domain, 0);
  below.type("A");
  b!.write(Uint8Array.of(66));
  below.type("B");
  machine.hypervisor.devices.detach(machine.hypervisor.devices.list(domain)[1]!);
  await machine.run();
  below.type("C");
  a!.write(Uint8Array.of(67));
  expect(got).toEqual(["a65", "b66", "a67"]);
  expect(below.text).toBe("BC");
});
