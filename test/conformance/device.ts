/**
 * The conformance kit for split devices: every device plugin, built in or a third party's, runs this suite.
 *
 * A scripted frontend drives the backend through the real core. What must hold whatever the device: specs are refused in plain words;
 * it connects, works, disconnects, connects again; nothing of a guest stays referenced when it goes; hostile acts hurt nobody else; equal
 * runs are equal.
 */

import { XenbusState } from "../../core/abi/index.ts";
import { ConfigError } from "../../core/errors.ts";
import type { Plugin } from "../../core/plugin.ts";
import { MemoryHost, type ScriptedGuest, type ScriptedMachine, scriptedMachine } from "../support/scripted-frontend.ts";

/** What the suite needs of a test framework. */
export interface AsyncSuiteFramework {
  describe(name: string, body: () => void): void;
  test(name: string, body: () => Promise<void>): void;
  /** Throws when the condition is false. */
  check(condition: boolean, message: string): void;
}

/** A device type under test: its plugin, and how a frontend uses it. */
export interface DeviceUnderTest<Link> {
  readonly type: string;
  readonly plugin: Plugin;
  /** A spec that works with what `prepare` makes. */
  readonly spec: string;
  readonly badSpecs: readonly string[];
  /** The frontend's directory in its home; null: a device without a handshake. */
  readonly directory: string | null;
  /** Puts what the spec needs into the host. */
  prepare?(host: MemoryHost): void;
  /** Makes rings and writes nodes, except the state. */
  connect(guest: ScriptedGuest): Link;
  /** Does something useful with the device, letting the machine run; true when it worked. */
  work(machine: ScriptedMachine, guest: ScriptedGuest, link: Link): Promise<boolean>;
  /** What a hostile guest may do, connected. */
  readonly hostile: readonly { readonly name: string; act(guest: ScriptedGuest, link: Link): void }[];
}

/** Defines the suite. */
export function deviceSuite<Link>(framework: AsyncSuiteFramework, under: DeviceUnderTest<Link>): void {
  const { describe, test, check } = framework;

  const boot = async (guests = 1): Promise<ScriptedMachine> => {
    const host = new MemoryHost();
    under.prepare?.(host);
    const devices = [{ type: under.type, spec: under.spec }];
    const machine = await scriptedMachine({ plugins: [under.plugin], devices, host, guests });
    await machine.run();
    return machine;
  };
  const setState = (guest: ScriptedGuest, state: number): void => {
    if (under.directory !== null) guest.write(`${under.directory}/state`, state);
  };
  const backendState = (guest: ScriptedGuest): number => {
    const path = guest.read(`${under.directory}/backend`);
    return Number(guest.hypervisor.store.client.tryRead(`${path}/state`));
  };
  const connected = async (machine: ScriptedMachine, guest: ScriptedGuest): Promise<Link> => {
    const link = under.connect(guest);
    setState(guest, XenbusState.Initialised);
    await machine.run();
    if (under.directory !== null) {
      check(
        backendState(guest) === XenbusState.Connected,
        `the backend's state is ${backendState(guest)}, not Connected`,
      );
      setState(guest, XenbusState.Connected);
      await machine.run();
    }
    return link;
  };
  /** Destroys a guest and checks that nothing of it is left. */
  const gone = async (machine: ScriptedMachine, guest: ScriptedGuest): Promise<void> => {
    const { frames } = machine.hypervisor.machine;
    await machine.hypervisor.destroyDomain(guest.domain);
    await machine.run();
    check(
      frames.ownedBy(guest.domain.id) === 0,
      `${frames.ownedBy(guest.domain.id)} frames of a destroyed guest are still referenced`,
    );
    check(
      !machine.hypervisor.machine.domains.has(guest.domain.id),
      "the destroyed guest is still in the table of domains",
    );
  };

  describe(`conformance: device ${under.type}`, () => {
    test("refuses bad specs in one sentence", async () => {
      for (const spec of under.badSpecs) {
        const host = new MemoryHost();
        under.prepare?.(host);
        let error: unknown = null;
        try {
          await scriptedMachine({ plugins: [under.plugin], devices: [{ type: under.type, spec }], host });
        } catch (thrown) {
          error = thrown;
        }
        check(error instanceof ConfigError, `'${spec}' is not refused by a ConfigError but by ${String(error)}`);
        const message = (error as Error).message;
        check(/^[^\n]{10,}\.$/.test(message), `the message for '${spec}' is no sentence: ${message}`);
      }
    });

    test("connects and works", async () => {
      const machine = await boot();
      const guest = machine.guests[0]!;
      const link = await connected(machine, guest);
      check(await under.work(machine, guest, link), "it did not work");
      await gone(machine, guest);
    });

    test("lets go of a guest that never connected", async () => {
      const machine = await boot();
      await gone(machine, machine.guests[0]!);
    });

    if (under.directory !== null)
      test("disconnects, lets go of everything, and connects again", async () => {
        const machine = await boot();
        const guest = machine.guests[0]!;
        for (let round = 0; round < 3; round++) {
          const link = await connected(machine, guest);
          check(await under.work(machine, guest, link), `it did not work in round ${round}`);
          setState(guest, XenbusState.Closing);
          await machine.run();
          check(
            guest.domain.grants.activeCount === 0,
            `${guest.domain.grants.activeCount} grants are mapped after a disconnect`,
          );
          setState(guest, XenbusState.Closed);
          await machine.run();
          setState(guest, XenbusState.Initialising);
          await machine.run();
          check(
            backendState(guest) === XenbusState.InitWait,
            `the backend's state is ${backendState(guest)} after a reconnect, not InitWait`,
          );
        }
        await gone(machine, guest);
      });

    if (under.directory !== null)
      test("refuses a frontend without rings, and serves it when it has some", async () => {
        const machine = await boot();
        const guest = machine.guests[0]!;
        setState(guest, XenbusState.Initialised);
        await machine.run();
        check(
          backendState(guest) === XenbusState.Closing,
          `the backend's state is ${backendState(guest)}, not Closing`,
        );
        setState(guest, XenbusState.Closed);
        await machine.run();
        setState(guest, XenbusState.Initialising);
        await machine.run();
        const link = await connected(machine, guest);
        check(await under.work(machine, guest, link), "it did not work");
        await gone(machine, guest);
      });

    for (const { name, act } of under.hostile)
      test(`a hostile guest: ${name}`, async () => {
        const machine = await boot(2);
        const [bad, good] = machine.guests as [ScriptedGuest, ScriptedGuest];
        const link = await connected(machine, bad);
        act(bad, link);
        await machine.run();
        check(machine.hypervisor.plugins.length > 0 && !bad.domain.dying, "the hostile guest was destroyed");
        const other = await connected(machine, good);
        check(await under.work(machine, good, other), "another guest's device does not work any more");
        await gone(machine, bad);
        await gone(machine, good);
      });

    test("gives equal runs for equal inputs", async () => {
      const once = async (): Promise<string> => {
        const machine = await boot(2);
        for (const guest of machine.guests) {
          const link = await connected(machine, guest);
          await under.work(machine, guest, link);
        }
        return `${machine.trace.join("\n")}\n${machine.hypervisor.machine.now}`;
      };
      const first = await once();
      check(first === (await once()), "two equal runs differ");
    });
  });
}
