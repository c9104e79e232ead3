/** Split devices by the core's manager: the handshake with a frontend that is written by hand, resources, orderly and sudden ends. */
import { describe, expect, test } from "vitest";
import * as xen from "../../../core/abi/index.ts";
import type { DeviceHost, DeviceType, MappedPages } from "../../../core/device/device-type.ts";
import { Assembler, type Guest, ToyMachine } from "./machine.ts";

const { XenbusState } = xen;

interface Probe {
  readonly calls: string[];
  host: DeviceHost | null;
  pages: MappedPages | null;
  events: number;
}

/** Maps the frame in node `ring-ref` and binds `event-channel`; never lets go of anything by itself. */
function greedy(probe: Probe): DeviceType {
  return {
    type: "greedy",
    parse: () => null,
    deviceId: () => 3,
    create: (host) => {
      probe.host = host;
      return {
        kind: "split",
        probe: () => {
          probe.calls.push("probe");
          host.backend.write("feature", "1");
        },
        connect: () => {
          probe.calls.push("connect");
          probe.pages = host.mapForeign([Number(host.frontend.read("ring-ref"))], "rw");
          host.bindEvent(Number(host.frontend.read("event-channel")), () => probe.events++);
          host.timer(host.now() + 1e12, () => {});
          host.frontend.watch("name", () => {});
        },
        disconnect: () => void probe.calls.push("disconnect"),
        close: () => void probe.calls.push("close"),
      };
    },
  };
}

async function started(): Promise<{
  toy: ToyMachine;
  guest: Guest;
  probe: Probe;
  states: number[];
  home: string;
  write: (key: string, value: string) => void;
}> {
  const probe: Probe = { calls: [], host: null, pages: null, events: 0 };
  const states: number[] = [];
  const toy = await ToyMachine.boot({
    apply: ({ hooks }) => {
      hooks.deviceType.for("greedy").tap("test", () => greedy(probe));
      hooks.deviceState.tap("test", (_domain, device, state) => {
        expect(device).toBe("greedy/3");
        states.push(state);
      });
    },
  });
  const sleeper = new Assembler().label("sleep").halt().jump("sleep");
  const guest = await toy.start("d", sleeper, { devices: [{ type: "greedy", spec: "" }] });
  const home = `/local/domain/${guest.domain.id}/device/greedy/3`;
  const write = (key: string, value: string): void => toy.hypervisor.store.client.write(`${home}/${key}`, value);
  return { toy, guest, probe, states, home, write };
}

async function connected() {
  const world = await started();
  const { toy, guest, write } = world;
  const port = guest.domain.events.allocUnbound(0);
  write("ring-ref", "16");
  write("event-channel", String(port));
  write("state", String(XenbusState.Initialised));
  await toy.run();
  expect(world.states.at(-1)).toBe(XenbusState.Connected);
  return { ...world, port, mfn: guest.domain.arch!.gfnToMfn(guest.domain, 16) };
}

describe("a split device", () => {
  test("is probed when it is attached, connected when the frontend is ready, told of events", async () => {
    const { toy, guest, probe, states, port, mfn } = await connected();
    expect(states).toEqual([XenbusState.InitWait, XenbusState.Connected]);
    expect(probe.calls).toEqual(["probe", "connect"]);
    expect(toy.hypervisor.machine.frames.refs[mfn]).toBe(2);
    const before = probe.events;
    guest.domain.events.send(port);
    guest.domain.events.send(port);
    await toy.run();
    expect(probe.events).toBe(before + 1);
    probe.pages!.pages[0]![5] = 0x42;
    expect(toy.read(guest, 16 * 4096 + 5, 1).getUint8(0)).toBe(0x42);
  });

  test("an orderly detach: the frontend is asked; then everything it held is free and both directories are gone", async () => {
    const { toy, guest, probe, write, home, mfn } = await connected();
    const { devices, store, machine } = toy.hypervisor;
    const [device] = devices.list(guest.domain);
    devices.detach(device!);
    await toy.run();
    expect(devices.list(guest.domain).length).toBe(1);
    write("state", String(XenbusState.Closed));
    await toy.run();
    expect(probe.calls).toEqual(["probe", "connect", "disconnect", "close"]);
    expect(devices.list(guest.domain)).toEqual([]);
    expect(machine.frames.refs[mfn]).toBe(1);
    expect(machine.timers.next).toBeGreaterThan(1e12);
    expect(store.client.exists(home)).toBe(false);
    expect(store.client.exists(`/local/domain/0/backend/greedy/${guest.domain.id}/3`)).toBe(false);
    // The number can be used again.
    await devices.attach(guest.domain, "greedy", "");
    expect(store.client.read(`${home}/state`)).toBe(String(XenbusState.Initialising));
    devices.detach(devices.list(guest.domain)[0]!);
    devices.detach(device!);
  });

  test("a callback that throws closes it: mapping, port, timer, watch are released for it", async () => {
    const { toy, guest, probe, mfn } = await connected();
    const { machine, devices } = toy.hypervisor;
    const ports = machine.domains.get(0)!.events.used;
    probe.host!.timer(machine.now + 1000, () => {
      throw new Error("bang");
    });
    await toy.run({ until: machine.now + 1e6 });
    expect(devices.list(guest.domain)).toEqual([]);
    expect(machine.frames.refs[mfn]).toBe(1);
    expect(machine.domains.get(0)!.events.used).toBe(ports - 1);
    expect(toy.log.find((line) => line.startsWith("plugin 'test' failed"))).toMatch(
      /^plugin 'test' failed, its device is closed: greedy 3 of d \(domain 1\): bang at test\/conformance\/toy-port\/devices\.test\.ts:\d+$/,
    );
    // Late answers of the host reach nobody.
    let late = 0;
    probe.host!.io(Promise.resolve(1), 10, () => late++);
    await toy.run({ until: machine.now + 1e6 });
    expect(late).toBe(0);
    await toy.hypervisor.destroyDomain(guest.domain);
    expect(machine.frames.free).toBe(16 * 256);
  });

  test("with its domain destroyed: disconnected, and nothing is left", async () => {
    const { toy, guest, probe } = await connected();
    await toy.hypervisor.destroyDomain(guest.domain);
    expect(probe.calls).toEqual(["probe", "connect", "disconnect", "close"]);
    expect(toy.hypervisor.machine.frames.free).toBe(16 * 256);
    expect(toy.hypervisor.machine.domains.get(0)!.events.used).toBe(0);
    await expect(toy.hypervisor.devices.attach(guest.domain, "greedy", "")).rejects.toThrow(/is being destroyed/);
  });

  test("a frontend that names what is not its own is refused, with the reason in the store, and may try again", async () => {
    const { toy, guest, probe, states, write, home } = await started();
    write("ring-ref", "30000");
    write("event-channel", "1");
    write("state", String(XenbusState.Initialised));
    await toy.run();
    expect(states.at(-1)).toBe(XenbusState.Closing);
    const { client } = toy.hypervisor.store;
    expect(client.read(`/local/domain/0/error/backend/greedy/${guest.domain.id}/3/error`)).toMatch(/frame 30000/);
    const port = guest.domain.events.allocUnbound(0);
    write("state", String(XenbusState.Closed));
    await toy.run();
    write("state", String(XenbusState.Initialising));
    await toy.run();
    client.write(`${home}/ring-ref`, "17");
    client.write(`${home}/event-channel`, String(port));
    write("state", String(XenbusState.Initialised));
    await toy.run();
    expect(states.at(-1)).toBe(XenbusState.Connected);
    expect(probe.calls.filter((call) => call === "connect").length).toBe(2);
  });
});
