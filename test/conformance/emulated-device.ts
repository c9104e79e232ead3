/**
 * The conformance kit for emulated devices: every device plugin that pretends to be hardware, built in or a third party's, runs this suite.
 *
 * The device sits in a scripted guest of the real core, with an interrupt controller that watches its lines (unless it is one). What must hold whatever the
 * device: specs are refused in plain words; what it says of itself is well-formed and true; no access, however wild, throws or makes it hold
 * anything of the guest once it is reset; a reset brings the state of power-on; one guest's device is no other's; equal runs are equal.
 */
import type {
  DeviceHost,
  DeviceRegion,
  DeviceType,
  EmulatedDevice,
  HostServices,
} from "../../core/device/device-type.ts";
import { ConfigError } from "../../core/errors.ts";
import { definePlugin, type Plugin } from "../../core/plugin.ts";
import { MemoryHost, type ScriptedGuest, type ScriptedMachine, scriptedMachine } from "../support/scripted-frontend.ts";
import type { AsyncSuiteFramework } from "./device.ts";

/** A device type under test: its plugin, and how a driver uses it. */
export interface EmulatedDeviceUnderTest {
  readonly type: string;
  readonly plugin: Plugin;
  /** A spec that works with what `prepare` makes. */
  readonly spec: string;
  readonly badSpecs: readonly string[];
  /** It is an interrupt controller. */
  readonly controller?: boolean;
  /** Puts what the spec needs into the host. */
  prepare?(host: MemoryHost): void;
  /** Does something useful with the device, from any state in which `reset` or power-on left it, letting the machine run; true when it worked. */
  work(machine: ScriptedMachine, guest: ScriptedGuest): Promise<boolean>;
  /** What a hostile guest may do with a device that has been reset. */
  readonly hostile: readonly { readonly name: string; act(guest: ScriptedGuest): void }[];
}

/** A device that was made, and the lines that it has raised. */
interface Made {
  readonly device: EmulatedDevice;
  readonly host: DeviceHost;
}

/** Levels of lines as their devices told them. */
interface Lines {
  readonly levels: Map<number, boolean>;
  readonly faults: string[];
}

const CONTROLLER = "kit-controller";
/** Bytes at the start of each region that random accesses prefer, and that a dump reads. */
const NEAR = 0x200;
const ACCESSES = 2000;
const SIZES = [1, 2, 4] as const;

/** Defines the suite. */
export function emulatedDeviceSuite(framework: AsyncSuiteFramework, under: EmulatedDeviceUnderTest): void {
  const { describe, test, check } = framework;

  const boot = async (guests = 1, spec = under.spec) => {
    const host = new MemoryHost();
    under.prepare?.(host);
    const made: Made[] = [];
    const lines = new Map<number, Lines>();
    const machine = await scriptedMachine({
      plugins: [watching(under.plugin, under.type, made), controllerPlugin(lines)],
      devices: [...(under.controller === true ? [] : [{ type: CONTROLLER, spec: "" }]), { type: under.type, spec }],
      host,
      guests,
    });
    await machine.run();
    return { machine, made, lines };
  };
  const attached = (machine: ScriptedMachine, guest: ScriptedGuest): boolean =>
    machine.hypervisor.devices.list(guest.domain).some((one) => one.type === under.type);
  /** Frames of a guest that somebody besides itself refers to. */
  const held = (machine: ScriptedMachine, guest: ScriptedGuest): number => {
    const { refs, owner } = machine.hypervisor.machine.frames;
    return refs.reduce((sum, count, mfn) => sum + (owner[mfn] === guest.domain.id && count > 1 ? 1 : 0), 0);
  };
  const gone = async (machine: ScriptedMachine, guest: ScriptedGuest): Promise<void> => {
    await machine.hypervisor.destroyDomain(guest.domain);
    await machine.run();
    const { frames } = machine.hypervisor.machine;
    check(
      frames.ownedBy(guest.domain.id) === 0,
      `${frames.ownedBy(guest.domain.id)} frames of a destroyed guest are still referenced`,
    );
  };

  describe(`conformance: device ${under.type}`, () => {
    test("refuses bad specs in one sentence", async () => {
      for (const spec of under.badSpecs) {
        let error: unknown = null;
        try {
          await boot(1, spec);
        } catch (thrown) {
          error = thrown;
        }
        check(error instanceof ConfigError, `'${spec}' is not refused by a ConfigError but by ${String(error)}`);
        const message = (error as Error).message;
        check(/^[^\n]{10,}\.$/.test(message), `the message for '${spec}' is no sentence: ${message}`);
      }
    });

    test("says of itself what can be told to a guest", async () => {
      const { machine, made } = await boot();
      const { device } = made[0]!;
      check(device.regions.length > 0, "it has no region");
      const [placed] = machine.guests[0]!.placed.filter((one) => one.type === under.type);
      const description = placed?.description ?? null;
      if (description === null) return;
      check(description.compatible.length > 0, "it is compatible with nothing");
      for (const name of description.compatible)
        check(/^[a-zA-Z0-9,.+_-]{1,63}$/.test(name), `'${name}' is no name of a device`);
      for (const line of description.interrupts)
        check(Number.isSafeInteger(line) && line >= 0, `${line} is no interrupt line`);
      for (const [key, value] of Object.entries(description.properties ?? {})) {
        check(/^[a-zA-Z0-9,.+?#_-]{1,31}$/.test(key), `'${key}' is no name of a property`);
        const cells = Array.isArray(value) ? value : [];
        check(
          cells.every((cell) => Number.isInteger(cell) && cell >= 0 && cell < 2 ** 32),
          `property '${key}' has cells that are no 32-bit numbers`,
        );
      }
      const { store } = machine.hypervisor;
      check(!store.client.exists(`/local/domain/0/backend/${under.type}`), "XenStore has nodes of an emulated device");
    });

    test("works, again after a reset, and leaves nothing behind", async () => {
      const { machine, made, lines } = await boot();
      const guest = machine.guests[0]!;
      check(await under.work(machine, guest), "it did not work");
      made[0]!.device.reset();
      check(await under.work(machine, guest), "it did not work after a reset");
      checkLines(check, made[0]!.device, lines.get(guest.domain.id));
      await gone(machine, guest);
    });

    test("lets go of a guest that never touched it", async () => {
      const { machine } = await boot();
      await gone(machine, machine.guests[0]!);
    });

    test("bears any access to any offset; a reset brings it back to power-on", async () => {
      const { machine, made, lines } = await boot();
      const guest = machine.guests[0]!;
      const { device } = made[0]!;
      const before = held(machine, guest);
      const fresh = dump(device);
      device.reset();
      check(dump(device) === fresh, "a reset right after power-on changes what its registers read");
      for (let seed = 1; seed <= 5; seed++) {
        wild(guest, device.regions, seed, (value, size) => {
          check(Number.isInteger(value) && value >= 0 && value < 2 ** (8 * size), `it read ${value} in ${size} bytes`);
          check(attached(machine, guest), "it was closed: an access threw");
        });
        await machine.run({ until: machine.hypervisor.machine.now + 1e9 });
        check(attached(machine, guest), "it was closed: something after the accesses threw");
        checkLines(check, device, lines.get(guest.domain.id));
        device.reset();
        check(held(machine, guest) === before, "it holds frames of the guest after a reset");
        for (const level of lines.get(guest.domain.id)?.levels.values() ?? [])
          check(!level, "it holds an interrupt line high after a reset");
        check(dump(device) === fresh, "its registers read otherwise after a reset than at power-on");
        check(await under.work(machine, guest), "it did not work after wild accesses and a reset");
        device.reset();
      }
      await gone(machine, guest);
    });

    for (const { name, act } of under.hostile)
      test(`a hostile guest: ${name}`, async () => {
        const { machine, made } = await boot(2);
        const [bad, good] = machine.guests as [ScriptedGuest, ScriptedGuest];
        act(bad);
        await machine.run();
        check(attached(machine, bad) && !bad.domain.dying, "the hostile guest lost its device");
        check(await under.work(machine, good), "another guest's device does not work any more");
        made[0]!.device.reset();
        check(await under.work(machine, bad), "the device does not work after a reset");
        await gone(machine, bad);
        await gone(machine, good);
      });

    test("gives equal runs for equal inputs", async () => {
      const once = async (): Promise<string> => {
        const { machine, made } = await boot(2);
        const read: number[] = [];
        for (const [i, guest] of machine.guests.entries()) {
          wild(guest, made[i]!.device.regions, 9, (value) => void read.push(value));
          made[i]!.device.reset();
          await under.work(machine, guest);
        }
        return `${read.join()}\n${machine.trace.join("\n")}\n${machine.hypervisor.machine.now}`;
      };
      const first = await once();
      check(first === (await once()), "two equal runs differ");
    });
  });
}

/** The lines that a device raised are those that it speaks of, and it told of changes only. */
function checkLines(check: AsyncSuiteFramework["check"], device: EmulatedDevice, lines: Lines | undefined): void {
  if (lines === undefined) return;
  check(lines.faults.length === 0, lines.faults[0] ?? "");
  const described = device.describe?.().interrupts ?? [];
  for (const line of lines.levels.keys())
    check(described.includes(line), `it raised line ${line}, of which describe() says nothing`);
}

/** The plugin, with note taken of the devices that it makes. */
function watching(plugin: Plugin, type: string, made: Made[]): Plugin {
  const watched = (value: DeviceType): DeviceType => ({
    ...value,
    create(host, config) {
      const device = value.create(host, config);
      if (device.kind === "emulated") made.push({ device, host });
      return device;
    },
    ...(value.open === undefined
      ? {}
      : { open: (config: unknown, services: HostServices) => value.open!(config, services) }),
  });
  return {
    ...plugin,
    apply(hypervisor) {
      const { hooks } = hypervisor;
      const real = hooks.deviceType.for(type);
      const tap = (name: string, make: () => DeviceType): void => real.tap(name, () => watched(make()));
      const deviceType = {
        for: (key: string) => (key === type ? { tap } : hooks.deviceType.for(key)),
      } as unknown as typeof hooks.deviceType;
      plugin.apply(
        Object.assign(Object.create(hypervisor) as typeof hypervisor, {
          hooks: { ...hooks, deviceType },
          ownHooks: hypervisor.ownHooks.bind(hypervisor),
          hooksOf: hypervisor.hooksOf.bind(hypervisor),
        }),
      );
    },
  };
}

/** An interrupt controller without registers to speak of, which notes what it is told. */
function controllerPlugin(lines: Map<number, Lines>): Plugin {
  return definePlugin({
    name: CONTROLLER,
    api: "^1.0.0",
    apply(hypervisor) {
      hypervisor.hooks.deviceType.for(CONTROLLER).tap(CONTROLLER, () => ({
        type: CONTROLLER,
        kind: "emulated",
        parse: () => null,
        deviceId: () => 0,
        create(host) {
          const own: Lines = { levels: new Map(), faults: [] };
          lines.set(host.domain.id, own);
          return {
            kind: "emulated",
            regions: [{ space: "mmio", base: 2 ** 40, size: 4 }],
            read: () => 0,
            write: () => {},
            reset: () => {},
            controller: {
              line(line, level) {
                const before = own.levels.get(line);
                if (level && before === true) own.faults.push(`it raised line ${line}, which is high`);
                if (!level && before === false) own.faults.push(`it lowered line ${line}, which is low`);
                own.levels.set(line, level);
              },
            },
          };
        },
      }));
    },
  });
}

/** What the registers at the start of each region read. */
function dump(device: EmulatedDevice): string {
  const values: string[] = [];
  for (const [region, { size }] of device.regions.entries())
    for (let offset = 0; offset + 4 <= Math.min(size, NEAR); offset += 4)
      values.push(device.read(region, offset, 4).toString(16));
  return values.join();
}

/** Accesses to all regions: most near their start, some anywhere, a few over their edges. */
function wild(
  guest: ScriptedGuest,
  regions: readonly DeviceRegion[],
  seed: number,
  read: (value: number, size: number) => void,
): void {
  let state = seed * 2_654_435_761;
  /** A number below `most` (xorshift32). */
  const random = (most: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % most;
  };
  for (let i = 0; i < ACCESSES; i++) {
    const { space, base, size } = regions[random(regions.length)]!;
    const kind = random(10);
    const near = Math.min(size, NEAR);
    const offset = kind < 8 ? random(near) : kind < 9 ? random(size) : size - 1 - random(Math.min(size, 3));
    const width = SIZES[random(3)]!;
    const at = base + (random(2) === 0 ? offset - (offset % width) : offset);
    if (random(2) === 0) read(guest.ioRead(at, width, space), width);
    else guest.ioWrite(at, random(3) === 0 ? random(64) : random(2 ** 32), width, space);
  }
}
