/** Domains come and go: what is left of them is counted. Two machines in one process; equal runs; hooks that are told and that are sealed. */
import { describe, expect, test } from "vitest";
import * as xen from "../../../core/abi/index.ts";
import type { DeviceType } from "../../../core/device/device-type.ts";
import { ConfigError, ImageError, PluginError } from "../../../core/errors.ts";
import { Assembler, type Guest, ToyMachine, type ToyOptions } from "./machine.ts";
import { begin } from "./snippets.ts";

const H = xen.__HYPERVISOR;
const MAPPING = 0x50_0000;
const CONSOLE = [{ type: "console", spec: "" }];

/** Everything that a machine has to give, as numbers. */
function inventory(toy: ToyMachine) {
  const { machine, store, scheduling, devices } = toy.hypervisor;
  const { client } = store;
  const backends = client.exists("/local/domain/0/backend") ? tree(client, "/local/domain/0/backend") : [];
  return {
    free: machine.frames.free,
    domains: [...machine.domains.keys()],
    ports: machine.domains.get(0)!.events.used,
    units: scheduling.pools[0]!.units.size,
    devices: toy.hypervisor.domains.flatMap((domain) => devices.list(domain)).length,
    homes: client.list("/local/domain"),
    backends: backends.filter((path) => /\/\d+\/\d+$/.test(path)),
  };
}
function tree(client: ToyMachine["hypervisor"]["store"]["client"], path: string): string[] {
  return [path, ...client.list(path).flatMap((child) => tree(client, `${path}/${child}`))];
}

/** Domain 1 grants frame 8 to the next domain and waits. */
function granter(): Assembler {
  const p = begin(new Assembler());
  p.struct("table", xen.xen_add_to_physmap, {
    domid: xen.DOMID.SELF,
    space: xen.XENMAPSPACE.grant_table,
    idx: 0,
    gpfn: 0x400,
  });
  p.hypercall(H.memory_op, [xen.XENMEM.add_to_physmap, "table"]);
  p.li(7, 0x40_0000)
    .li(8, 8)
    .sw(8, 7, 8 * 8 + 4);
  p.li(8, (xen.GTF.permit_access << 16) | 2).sw(8, 7, 8 * 8);
  p.li(8, 0xfeed).li(9, 0x8000).sw(8, 9);
  return p.label("sleep").halt().jump("sleep");
}

/** Maps it, and unmaps when the word "go" is set. */
function mapper(): Assembler {
  const p = begin(new Assembler());
  p.struct("map", xen.gnttab_map_grant_ref, { host_addr: MAPPING, flags: xen.GNTMAP.host_map, ref: 8, dom: 1 });
  p.struct("unmap", xen.gnttab_unmap_grant_ref, { host_addr: MAPPING, handle: 0 });
  p.data("go", 4);
  p.hypercall(H.grant_table_op, [xen.GNTTABOP.map_grant_ref, "map", 1]);
  p.label("wait").halt().load(8, "go").li(9, 0).beq(8, 9, "wait");
  p.li(9, MAPPING).lw(8, 9).data("seen", 4);
  p.store(8, "seen");
  p.hypercall(H.grant_table_op, [xen.GNTTABOP.unmap_grant_ref, "unmap", 1]);
  return p.shutdown();
}

async function mapped(options: ToyOptions = {}): Promise<{ toy: ToyMachine; one: Guest; two: Guest }> {
  const toy = await ToyMachine.boot(options);
  const one = await toy.start("granter", granter(), { devices: CONSOLE });
  await toy.run();
  const two = await toy.start("mapper", mapper(), { devices: CONSOLE });
  await toy.run();
  expect(toy.struct(two, "map", xen.gnttab_map_grant_ref).status).toBe(0);
  return { toy, one, two };
}

/** Sets "go" and wakes the mapper. */
function go(two: Guest): void {
  const { domain, program } = two;
  const vcpu = domain.vcpus[0]!;
  domain.arch!.copyToGuest(vcpu, program.address("go"), 0, new Uint8Array([0, 0, 0, 1]), 4);
  domain.events.unmask(0);
  domain.shared!.setUpcallMask(vcpu, false);
}

describe("destruction", () => {
  test("gives back frames, ports, units, nodes: a hundred domains one after another", async () => {
    const toy = await ToyMachine.boot({ memoryMiB: 3 });
    const before = inventory(toy);
    for (let i = 0; i < 100; i++) {
      const guest = await toy.start(`d${i}`, new Assembler().shutdown(), { memoryMiB: 2, devices: CONSOLE });
      if (i % 10 === 0) await toy.run({ end: [guest] });
      expect(inventory(toy).free).toBeLessThan(before.free - 512);
      await toy.hypervisor.destroyDomain(guest.domain);
      expect(inventory(toy)).toEqual(before);
    }
  });

  test("a granter that goes first is dying until its frame is unmapped; nobody maps it anew", async () => {
    const { toy, one, two } = await mapped();
    const { frames, domains } = toy.hypervisor.machine;
    const mfn = one.domain.arch!.gfnToMfn(one.domain, 8);
    await toy.hypervisor.destroyDomain(one.domain);
    expect(domains.get(one.domain.id)).toBe(one.domain);
    expect(one.domain.dying).toBe(true);
    expect(frames.ownedBy(one.domain.id)).toBe(1);
    expect(frames.refs[mfn]).toBe(1);
    expect(one.domain.grants.pin(8, 2, xen.GNTMAP.host_map, true)).toBeLessThan(0);
    expect(one.domain.events.allocUnbound(0)).toBe(-xen.ERRNO.EINVAL);
    toy.hypervisor.inject(() => {
      go(two);
      toy.hypervisor.scheduling.clearFlag(two.domain.vcpus[0]!, 1);
    });
    expect(await toy.run({ end: [two] })).toBe("done");
    expect(toy.word(two, "seen")).toBe(0xfeed);
    expect(domains.has(one.domain.id)).toBe(false);
    expect(frames.owns(one.domain.id, mfn)).toBe(false);
    await toy.hypervisor.destroyDomain(two.domain);
    expect(inventory(toy).free).toBe(16 * 256);
    expect(inventory(toy).ports).toBe(0);
  });

  test("a mapper that goes first gives the mapping back", async () => {
    const { toy, one, two } = await mapped();
    const { frames } = toy.hypervisor.machine;
    const mfn = one.domain.arch!.gfnToMfn(one.domain, 8);
    expect(frames.refs[mfn]).toBe(2);
    await toy.hypervisor.destroyDomain(two.domain);
    expect(frames.refs[mfn]).toBe(1);
    expect(one.domain.grants.activeCount).toBe(0);
    await toy.hypervisor.destroyDomain(one.domain);
    expect(inventory(toy).free).toBe(16 * 256);
    expect([...toy.hypervisor.machine.domains.keys()]).toEqual([0]);
  });

  test("both at once, twice, and of domain 0: no harm", async () => {
    const { toy, one, two } = await mapped();
    const { hypervisor } = toy;
    await Promise.all([one, two, one].map(({ domain }) => hypervisor.destroyDomain(domain)));
    await hypervisor.destroyDomain(one.domain);
    await hypervisor.destroyDomain(hypervisor.machine.domains.get(0)!);
    expect(inventory(toy).free).toBe(16 * 256);
    expect([...hypervisor.machine.domains.keys()]).toEqual([0]);
    expect(toy.log.filter((line) => line.includes("destroyed")).length).toBe(2);
  });

  test("a plugin that throws on the way keeps nothing from being released", async () => {
    const toy = await ToyMachine.boot({
      apply: ({ hooks }) =>
        hooks.domainDestroy.tapPromise("test", () => Promise.reject(new Error("I want it to stay"))),
    });
    const before = inventory(toy);
    const guest = await toy.start("d", new Assembler().shutdown(), { devices: CONSOLE });
    await toy.hypervisor.destroyDomain(guest.domain);
    expect(inventory(toy)).toEqual(before);
    expect(toy.log).toContain("destroying d (domain 1): I want it to stay");
  });

  test("while it runs: its vCPUs leave their pCPUs, the others go on", async () => {
    const toy = await ToyMachine.boot({ pcpus: 2 });
    const spin = (): Assembler => new Assembler().label("spin").addi(8, 8, 1).jump("spin");
    const guests = [];
    for (const name of ["a", "b", "c"]) guests.push(await toy.start(name, spin()));
    await toy.run({ until: 5e6 });
    await toy.hypervisor.destroyDomain(guests[0]!.domain);
    await toy.hypervisor.destroyDomain(guests[1]!.domain);
    expect(await toy.run({ until: 10e6 })).toBe("limit");
    const running = toy.hypervisor.machine.pcpus.map((pcpu) => pcpu.current?.domain.name ?? null);
    expect(running.filter((name) => name !== null)).toEqual(["c"]);
    await toy.hypervisor.shutdown();
    await toy.hypervisor.shutdown();
    expect(inventory(toy).free).toBe(16 * 256);
  });
});

describe("a creation that fails leaves nothing behind", () => {
  const program = (): Assembler => new Assembler().shutdown();
  const bomb = (where: "parse" | "open" | "create" | "probe" | "connect"): DeviceType => ({
    type: "bomb",
    handshake: "none",
    parse: () => {
      if (where === "parse") throw new ConfigError("no such bomb");
      return null;
    },
    deviceId: () => 7,
    open: () => (where === "open" ? Promise.reject(new ConfigError("bomb: no such file")) : Promise.resolve()),
    create: (host) => {
      host.timer(1e9, () => {});
      host.backend.watch("online", () => {});
      if (where === "create") throw new Error("bang in create");
      return {
        kind: "split",
        probe: () => {
          if (where === "probe") throw new Error("bang in probe");
        },
        connect: () => {
          host.mapForeign([0x10], "rw");
          if (where === "connect") throw new Error("bang in connect");
        },
        disconnect: () => {},
      };
    },
  });

  test.each(["parse", "open", "create", "probe", "connect"] as const)("a device that fails in %s", async (where) => {
    const toy = await ToyMachine.boot({
      apply: ({ hooks }) => hooks.deviceType.for("bomb").tap("test", () => bomb(where)),
    });
    const before = inventory(toy);
    const timers = toy.hypervisor.machine.timers.size;
    const devices = [...CONSOLE, { type: "bomb", spec: "" }];
    await expect(toy.create("d", program(), { devices })).rejects.toThrow(/bomb|bang/);
    expect(inventory(toy)).toEqual(before);
    expect(toy.hypervisor.machine.timers.size).toBe(timers);
    const guest = await toy.runProgram(program(), { devices: CONSOLE });
    // The same device attached to a domain that lives: only the device is gone.
    const home = tree(toy.hypervisor.store.client, `/local/domain/${guest.domain.id}`);
    const with1 = inventory(toy);
    await expect(toy.hypervisor.devices.attach(guest.domain, "bomb", "")).rejects.toThrow(/bomb|bang/);
    expect(inventory(toy)).toEqual(with1);
    const after = tree(toy.hypervisor.store.client, `/local/domain/${guest.domain.id}`);
    expect(after.filter((path) => /bomb\/\d/.test(path))).toEqual([]);
    expect(after.length).toBeLessThanOrEqual(home.length + 1);
  });

  const config = (toy: ToyMachine, change: object): Promise<unknown> =>
    toy.hypervisor.createDomain(ToyMachine.config("d", program().image(), change));

  test.each<[string, object, new (...args: never[]) => Error, RegExp]>([
    ["no such type", { type: "hvm" }, PluginError, /No plugin provides architecture 'hvm'; there are: toy/],
    [
      "an image of another kind",
      { kernel: new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 1, 2, 3, 4, 5, 6, 7, 8]) },
      ImageError,
      /d\.toy: no toy image/,
    ],
    ["an image too short", { kernel: new Uint8Array(3) }, ImageError, /3 bytes are no toy image/],
    ["an image too large", { kernel: big() }, ImageError, /the program ends at 0x[0-9a-f]+, and 0xfd000 bytes/],
    ["more memory than there is", { memoryMiB: 17 }, ConfigError, /wants 17 MiB and the machine has 16 MiB free/],
    ["no memory", { memoryMiB: 0 }, ConfigError, /memory must be a whole number of MiB/],
    ["no vCPUs", { vcpus: 0 }, ConfigError, /vcpus must be a whole number from 1 to 64/],
    ["a pCPU that is not there", { cpus: [3] }, ConfigError, /cpus names pCPU 3, the machine has 0 to 0/],
    ["no pCPU at all", { cpus: [] }, ConfigError, /has no pCPU of pool 'Pool-0'/],
    [
      "a scheduler parameter that is not there",
      { schedulerParams: { shares: 3 } },
      ConfigError,
      /has no domain parameter 'shares'; it has weight, cap/,
    ],
    [
      "a scheduler parameter out of bounds",
      { schedulerParams: { weight: 0 } },
      ConfigError,
      /'weight' must be a whole number from 1 to 65535, got 0/,
    ],
    [
      "no such device",
      { devices: [{ type: "floppy", spec: "" }] },
      PluginError,
      /No plugin provides device type 'floppy'/,
    ],
    [
      "two of one device",
      { devices: [...CONSOLE, ...CONSOLE] },
      ConfigError,
      /two devices 'console' with the number 0/,
    ],
    ["a bad uuid", { uuid: "../../x" }, ConfigError, /uuid must be/],
  ])("%s", async (_name, change, kind, message) => {
    const toy = await ToyMachine.boot();
    const before = inventory(toy);
    const failed = await config(toy, change).then(
      () => null,
      (error: unknown) => error,
    );
    expect(failed).toBeInstanceOf(kind);
    expect((failed as Error).message).toMatch(message);
    expect(inventory(toy)).toEqual(before);
  });

  test("a hook that refuses; a uuid that is taken", async () => {
    const uuid = "01234567-89ab-cdef-0123-456789abcdef";
    const toy = await ToyMachine.boot({
      apply: ({ hooks }) =>
        hooks.domainCreate.tapPromise("test", (domain) =>
          domain.name === "no" ? Promise.reject(new ConfigError("policy says no")) : Promise.resolve(),
        ),
    });
    const one = await toy.create("yes", program(), { uuid });
    const before = inventory(toy);
    await expect(toy.create("no", program())).rejects.toThrow("policy says no");
    await expect(toy.create("again", program(), { uuid })).rejects.toThrow(/has the uuid of domain 'yes'/);
    expect(inventory(toy)).toEqual(before);
    expect(toy.hypervisor.store.client.read(`/vm/${uuid}/name`)).toBe("yes");
    await toy.hypervisor.destroyDomain(one.domain);
    await toy.create("again", program(), { uuid });
  });

  function big(): Uint8Array {
    const p = new Assembler().shutdown();
    p.data("much", 2 * 1024 * 1024);
    return p.image();
  }
});

describe("machines", () => {
  test("a machine that cannot be is refused in a sentence; a hypervisor boots once", async () => {
    await expect(ToyMachine.boot({ pcpus: 0 })).rejects.toThrow("The machine's number of pCPUs must be a whole number");
    await expect(ToyMachine.boot({ memoryMiB: 4097 })).rejects.toThrow("memory in MiB must be a whole number");
    await expect(ToyMachine.boot({ cpuMhz: 0.5 })).rejects.toThrow(ConfigError);
    await expect(ToyMachine.boot({ scheduler: "no-such" })).rejects.toThrow(
      /No plugin provides scheduler 'no-such'; there are: credit, round-robin/,
    );
    const toy = await ToyMachine.boot();
    await expect(toy.hypervisor.boot({ scheduler: "credit" })).rejects.toThrow("boots once");
  });

  test("hooks are sealed after boot, with the late plugin named, and untapped ones stay unused", async () => {
    const toy = await ToyMachine.boot({ apply: ({ hooks }) => hooks.trap.tap("test", () => {}) });
    const { hooks } = toy.hypervisor;
    const late = /HV_HOOKS_SEALED|Plugin 'late' taps a hook after boot/;
    expect(() => hooks.boot.tap("late", () => {})).toThrow(late);
    expect(() => hooks.boot.tapPromise("late", () => Promise.resolve())).toThrow(late);
    expect(() => hooks.contextSwitch.tap({ name: "late" }, () => {})).toThrow(late);
    expect(() => hooks.contextSwitch.intercept({ call: () => {} })).toThrow(PluginError);
    expect(() => hooks.scheduler.for("credit").tap("late", () => null as never)).toThrow(late);
    expect(() => hooks.scheduler.for("mine").tap("late", () => null as never)).toThrow(late);
    expect([hooks.contextSwitch.isUsed(), hooks.eventSend.isUsed(), hooks.trap.isUsed()]).toEqual([false, false, true]);
  });

  /** A busy machine: console, grants, two pCPUs; everything that the trace hooks tell, as text. */
  const traced = async (seed: number, chop: boolean): Promise<string> => {
    const trace: string[] = [];
    const add = (...parts: unknown[]): void => void trace.push(parts.join(" "));
    const { toy, two } = await mapped({
      pcpus: 2,
      seed,
      apply: ({ hooks }) => {
        hooks.contextSwitch.tap("t", (pcpu, from, to, now) => add("switch", pcpu.id, from, to, now));
        hooks.runstate.tap("t", (vcpu, from, to, now) => add("runstate", vcpu, from, to, now));
        hooks.hypercall.tap("t", (vcpu, nr, result, now) => add("hypercall", vcpu, nr, result, now));
        hooks.eventSend.tap("t", (domain, port, now) => add("event", domain, port, now));
        hooks.grantMap.tap("t", (a, b, ref, status, now) => add("grant", a, b, ref, status, now));
        hooks.domainShutdown.tap("t", (domain, reason, now) => add("shutdown", domain, reason, now));
        hooks.domainCreate.tap("t", (domain) => add("create", domain, domain.uuid));
        hooks.domainDestroy.tap("t", (domain) => add("destroy", domain));
      },
    });
    const spin = new Assembler();
    spin.loop(7, 40_000, () => spin.addi(8, 8, 1));
    const three = await toy.start("three", spin.shutdown());
    const start = toy.hypervisor.machine.now;
    if (chop) for (let i = 1; i < 60; i++) await toy.run({ until: start + i * 41_000, end: [three] });
    await toy.run({ end: [three] });
    await toy.run(); // what the shutdown has queued
    await toy.hypervisor.destroyDomain(two.domain);
    return trace.join("\n");
  };

  test("equal inputs give equal traces; trace hooks are called; seeds differ in what is random", async () => {
    const first = await traced(1, false);
    expect(await traced(1, false)).toBe(first);
    for (const kind of ["switch", "runstate", "hypercall", "event", "grant", "shutdown", "create", "destroy"])
      expect(first).toMatch(new RegExp(`^${kind} `, "m"));
    const other = await traced(2, false);
    expect(other).not.toBe(first);
    const withoutUuid = (text: string): string => text.replace(/^create .*$/gm, "");
    expect(withoutUuid(other)).toBe(withoutUuid(first));
  });

  test("a run cut into pieces by limits is the same run", async () => {
    expect(await traced(1, true)).toBe(await traced(1, false));
  });

  test("two hypervisors in one process do not know one another", async () => {
    const [one, two] = [await ToyMachine.boot(), await ToyMachine.boot({ scheduler: "round-robin" })];
    const spin = (times: number): Assembler => {
      const p = new Assembler();
      p.data("sum", 4);
      p.loop(7, times, () => p.addi(8, 8, 1));
      return p.store(8, "sum").shutdown();
    };
    const a = await one.start("a", spin(5_000));
    const b = await two.start("b", spin(9_000));
    const [endA, endB] = await Promise.all([one.run({ end: [a] }), two.run({ end: [b] })]);
    expect([endA, endB]).toEqual(["done", "done"]);
    expect([one.word(a, "sum"), two.word(b, "sum")]).toEqual([5_000, 9_000]);
    expect([a.domain.id, b.domain.id]).toEqual([1, 1]);
    expect(one.hypervisor.domains.map((d) => d.name)).toEqual(["Domain-0", "a"]);
    await one.hypervisor.shutdown();
    expect(two.hypervisor.domains.map((d) => d.name)).toEqual(["Domain-0", "b"]);
  });
});
