/** Frontends that mean harm: whatever is on the ring and in XenStore, the guest gets errors, nobody else notices, nothing is left behind. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BLKIF_OP, XenbusState } from "../../../core/abi/index.ts";
import plugin from "../../../plugins/device-vbd/plugin.ts";
import { FAKE_ABIS } from "../../support/fake-arch.ts";
import { MemoryHost, type ScriptedMachine, scriptedMachine } from "../../support/scripted-frontend.ts";
import { BlkFrontend } from "./frontend.ts";

const DIRECTORY = "device/vbd/51712";
const SECTORS = 128;

/** Two guests with a disk each; the second one is well-behaved. */
async function boot(abi = FAKE_ABIS[0]!): Promise<ScriptedMachine> {
  const host = new MemoryHost();
  host.files.set("disk.img", new Uint8Array(SECTORS * 512).fill(1));
  const devices = [{ type: "vbd", spec: "disk.img,raw,xvda,w,cow=temp" }];
  const machine = await scriptedMachine({ plugins: [plugin], devices, guests: 2, host, abi });
  await machine.run();
  return machine;
}

async function connect(machine: ScriptedMachine, index: number, persistent = false): Promise<BlkFrontend> {
  const guest = machine.guests[index]!;
  if (persistent) guest.write(`${DIRECTORY}/feature-persistent`, "1");
  const frontend = new BlkFrontend(guest, DIRECTORY);
  guest.write(`${DIRECTORY}/state`, XenbusState.Initialised);
  await machine.run();
  guest.write(`${DIRECTORY}/state`, XenbusState.Connected);
  await machine.run();
  return frontend;
}

/** The second guest's disk works, the plugin was not ejected, and after the first guest's end nothing of it is left. */
async function unharmed(machine: ScriptedMachine, other: BlkFrontend): Promise<void> {
  const id = other.read(3, 512);
  await machine.run();
  expect(other.responses()).toMatchObject([{ id, status: 0 }]);
  expect(other.data(id, 512).every((byte) => byte === 1)).toBe(true);
  expect(machine.log.join("\n")).not.toContain("failed, its device is closed");
  const { domain } = machine.guests[0]!;
  await machine.hypervisor.destroyDomain(domain);
  await machine.run();
  const { frames, domains } = machine.hypervisor.machine;
  expect(domain.grants.activeCount).toBe(0);
  expect(frames.ownedBy(domain.id)).toBe(0);
  expect(domains.has(domain.id)).toBe(false);
  expect(machine.host.files.get("disk.img")!.every((byte) => byte === 1)).toBe(true);
}

/** Bytes of a slot: small and large numbers where they hurt. */
const slot = fc
  .record({
    operation: fc.oneof(fc.nat(7), fc.nat(255)),
    count: fc.oneof(fc.nat(14), fc.nat(255)),
    wide: fc.oneof(fc.nat(300), fc.nat(65535)),
    words: fc.array(fc.oneof(fc.nat(40), fc.nat(SECTORS + 4), fc.constantFrom(0xffff_ffff, 0x8000_0000), fc.nat()), {
      minLength: 28,
      maxLength: 28,
    }),
  })
  .map(({ operation, count, wide, words }) => ({ operation, count, wide, words }));

describe("random rings", () => {
  test.each(FAKE_ABIS)("of $name", async (abi) => {
    await fc.assert(
      fc.asyncProperty(fc.array(slot, { minLength: 1, maxLength: 60 }), fc.boolean(), async (slots, persistent) => {
        const machine = await boot(abi);
        const other = await connect(machine, 1);
        const bad = await connect(machine, 0, persistent);
        const { guest } = bad;
        // References 8.. exist, the ring's own among them; some may only be read, some name frames that are not the guest's.
        for (let i = 0; i < 8; i++) guest.grant(guest.frame(), i % 2 === 1);
        guest.setGrant(30, machine.guests[1]!.frame(), 1);
        guest.setGrant(31, 0x7fff_ffff, 1);
        const little = guest.domain.abi.endian === "little";
        for (const { operation, count, wide, words } of slots) {
          const bytes = new DataView(new ArrayBuffer(112));
          for (const [i, word] of words.entries()) bytes.setUint32(4 * i, word, little);
          bytes.setUint8(0, operation);
          bytes.setUint8(1, count);
          if (operation === BLKIF_OP.INDIRECT) {
            bytes.setUint8(1, count % 3);
            bytes.setUint16(2, wide, little);
          }
          if (bad.free === 0) {
            await machine.run();
            bad.responses();
          }
          // A request may have overwritten the ring, and the indices with it.
          if (bad.free === 0) break;
          bad.slot(new Uint8Array(bytes.buffer));
        }
        bad.push();
        await machine.run();
        await unharmed(machine, other);
      }),
      { numRuns: 12 },
    );
  });
});

describe("nodes and states", () => {
  const states = fc.array(
    fc.oneof(
      fc.record({
        key: fc.constant("state"),
        value: fc.constantFrom("0", "1", "2", "3", "4", "5", "6", "7", "9", "", "x"),
      }),
      fc.record({
        key: fc.constantFrom(
          "ring-ref",
          "event-channel",
          "ring-page-order",
          "ring-ref0",
          "protocol",
          "multi-queue-num-queues",
        ),
        value: fc.constantFrom("8", "9", "3", "0", "-1", "99999999999", "4294967295", "abc", "", "x86_64-abi", "1"),
      }),
    ),
    { minLength: 1, maxLength: 25 },
  );

  test("in any order", async () => {
    await fc.assert(
      fc.asyncProperty(states, fc.array(fc.boolean(), { minLength: 25, maxLength: 25 }), async (writes, waits) => {
        const machine = await boot();
        const other = await connect(machine, 1);
        const [guest] = machine.guests;
        new BlkFrontend(guest!, DIRECTORY);
        for (const [i, { key, value }] of writes.entries()) {
          guest!.write(`${DIRECTORY}/${key}`, value);
          if (waits[i]) await machine.run();
        }
        await machine.run();
        await unharmed(machine, other);
      }),
      { numRuns: 30 },
    );
  });
});

describe("an end in the middle of I/O", () => {
  const ends = {
    "the frontend closes": (machine: ScriptedMachine) =>
      machine.guests[0]!.write(`${DIRECTORY}/state`, XenbusState.Closing),
    "the frontend starts over": (machine: ScriptedMachine) =>
      machine.guests[0]!.write(`${DIRECTORY}/state`, XenbusState.Initialising),
    "the toolstack detaches": (machine: ScriptedMachine) => {
      const { devices } = machine.hypervisor;
      devices.detach(devices.list(machine.guests[0]!.domain)[0]!);
    },
    "the frontend's directory goes": (machine: ScriptedMachine) =>
      machine.hypervisor.store.client.rm(`/local/domain/${machine.guests[0]!.domain.id}/${DIRECTORY}`),
    "the ring's grant is taken away": (machine: ScriptedMachine) => machine.guests[0]!.setGrant(8, 0, 0),
    "the producer runs away": (_: ScriptedMachine, frontend: BlkFrontend) => frontend.wildProducer(),
  };
  test.each(Object.entries(ends))("%s", async (_name, end) => {
    for (const persistent of [false, true]) {
      const machine = await boot();
      const other = await connect(machine, 1);
      const frontend = await connect(machine, 0, persistent);
      const file = machine.host.opened[1]!;
      file.gate = () => new Promise((resolve) => setTimeout(resolve, 2));
      for (let i = 0; i < 10; i++) {
        frontend.read(i, 4096);
        frontend.write(8 * i, new Uint8Array(4096).fill(i));
        frontend.flush();
      }
      await machine.run({ done: () => file.operations.length > 3 });
      end(machine, frontend);
      await machine.run();
      expect(file.closed || frontend.guest.domain.grants.activeCount < 40).toBe(true);
      await unharmed(machine, other);
      expect(machine.host.opened.filter((opened) => opened.closed).length).toBeGreaterThanOrEqual(2);
    }
  });
});
