/** The block backend, driven by a scripted frontend through the real core. */
import { describe, expect, test } from "vitest";
import { ABI_X86_64, BLKIF_OP, BLKIF_RSP, XenbusState } from "../../../core/abi/index.ts";
import plugin from "../../../plugins/device-vbd/plugin.ts";
import { LATENCY } from "../../../plugins/lib-block/index.ts";
import { FAKE_ABIS } from "../../support/fake-arch.ts";
import {
  MemoryHost,
  type ScriptedGuest,
  type ScriptedMachine,
  type ScriptedOptions,
  scriptedMachine,
} from "../../support/scripted-frontend.ts";
import { BlkFrontend } from "./frontend.ts";

const DIRECTORY = "device/vbd/51712";
const SECTORS = 256;

async function boot(options: Partial<ScriptedOptions> & { spec?: string } = {}): Promise<ScriptedMachine> {
  const host = options.host ?? new MemoryHost();
  host.files.set(
    "disk.img",
    Uint8Array.from({ length: SECTORS * 512 }, (_, i) => (i >> 9) & 255),
  );
  const devices = [{ type: "vbd", spec: options.spec ?? "disk.img,raw,xvda,w" }];
  const machine = await scriptedMachine({ plugins: [plugin], devices, ...options, host });
  await machine.run();
  return machine;
}

async function connect(
  machine: ScriptedMachine,
  guest: ScriptedGuest = machine.guests[0]!,
  protocol: ConstructorParameters<typeof BlkFrontend>[2] = null,
): Promise<BlkFrontend> {
  const frontend = new BlkFrontend(guest, DIRECTORY, protocol);
  guest.write(`${DIRECTORY}/state`, XenbusState.Initialised);
  await machine.run();
  expect(guest.backend("vbd", 51712, "state")).toBe(String(XenbusState.Connected));
  guest.write(`${DIRECTORY}/state`, XenbusState.Connected);
  await machine.run();
  return frontend;
}

describe("vbd", () => {
  test("publishes what Xen's backend publishes", async () => {
    const machine = await boot();
    const guest = machine.guests[0]!;
    await connect(machine);
    const node = (key: string): string | undefined => guest.backend("vbd", 51712, key);
    expect(node("sectors")).toBe(String(SECTORS));
    expect(node("sector-size")).toBe("512");
    expect(node("physical-sector-size")).toBe("512");
    expect(node("info")).toBe("0");
    expect(node("mode")).toBe("w");
    expect(node("dev")).toBe("xvda");
    expect(node("device-type")).toBe("disk");
    expect(node("feature-flush-cache")).toBe("1");
    expect(node("feature-barrier")).toBe("1");
    expect(node("feature-persistent")).toBe("1");
    expect(node("feature-max-indirect-segments")).toBe("256");
    expect(node("feature-discard")).toBe("1");
    expect(node("discard-granularity")).toBe("4096");
    expect(node("discard-alignment")).toBe("0");
    expect(node("multi-queue-max-queues")).toBe("1");
    expect(node("max-ring-page-order")).toBe("4");
    expect(guest.read(`${DIRECTORY}/virtual-device`)).toBe("51712");
    expect(guest.read(`${DIRECTORY}/device-type`)).toBe("disk");
  });

  test("reads 11 segments in one request, and answers after the latency", async () => {
    const machine = await boot();
    const frontend = await connect(machine);
    const before = machine.hypervisor.machine.now;
    const id = frontend.read(16, 11 * 4096);
    await machine.run();
    expect(frontend.responses()).toEqual([{ id, operation: BLKIF_OP.READ, status: BLKIF_RSP.OKAY }]);
    expect(frontend.data(id, 11 * 4096)).toEqual(
      machine.host.files.get("disk.img")!.subarray(16 * 512, 16 * 512 + 11 * 4096),
    );
    expect(machine.hypervisor.machine.now - before).toBeGreaterThanOrEqual(LATENCY);
    expect(machine.hypervisor.machine.now - before).toBeLessThan(2 * LATENCY);
  });

  test.each(["x86_64-abi", "x86_32-abi"])("speaks %s with any guest", async (name) => {
    const abi =
      name === "x86_64-abi" ? ABI_X86_64 : { wordBytes: 4 as const, endian: "little" as const, align64: 4 as const };
    for (const native of FAKE_ABIS.slice(0, 2)) {
      const machine = await boot({ abi: native });
      const frontend = await connect(machine, machine.guests[0]!, { name, abi });
      const id = frontend.read(2, 512);
      await machine.run();
      expect(frontend.responses()).toEqual([{ id, operation: BLKIF_OP.READ, status: BLKIF_RSP.OKAY }]);
      expect(frontend.data(id, 512).every((byte) => byte === 2)).toBe(true);
    }
  });

  test.each(FAKE_ABIS)("speaks the native layout of $name", async (abi) => {
    const machine = await boot({ abi });
    const frontend = await connect(machine);
    const id = frontend.read(7, 1024);
    await machine.run();
    expect(frontend.responses()).toEqual([{ id, operation: BLKIF_OP.READ, status: BLKIF_RSP.OKAY }]);
    expect(frontend.data(id, 1024)[600]).toBe(8);
  });

  test("refuses a protocol it does not know", async () => {
    const machine = await boot();
    const guest = machine.guests[0]!;
    new BlkFrontend(guest, DIRECTORY, { name: "arm-abi", abi: guest.domain.abi });
    guest.write(`${DIRECTORY}/state`, XenbusState.Initialised);
    await machine.run();
    expect(guest.backend("vbd", 51712, "state")).toBe(String(XenbusState.Closing));
  });

  test("flushes after what came before, and answers after the host's fsync", async () => {
    const machine = await boot();
    const frontend = await connect(machine);
    const ids = [
      frontend.write(0, new Uint8Array(512).fill(1)),
      frontend.flush(),
      frontend.write(1, new Uint8Array(512).fill(2), BLKIF_OP.WRITE_BARRIER),
    ];
    await machine.run();
    expect(frontend.responses().map((r) => [r.id, r.status])).toEqual(ids.map((id) => [id, BLKIF_RSP.OKAY]));
    expect(machine.host.opened.at(-1)!.operations).toEqual(["write 0 512", "flush", "flush", "write 512 512", "flush"]);
  });

  test("a failing host gives an error and nothing else", async () => {
    const host = new MemoryHost();
    host.gate = async (operation) => {
      if (operation.startsWith("read 512")) throw new Error("EIO: bad block");
    };
    const machine = await boot({ host });
    const frontend = await connect(machine);
    frontend.read(1, 512);
    frontend.read(2, 512);
    await machine.run();
    expect(frontend.responses().map((r) => r.status)).toEqual([BLKIF_RSP.ERROR, BLKIF_RSP.OKAY]);
    expect(machine.log.join("\n")).toContain("bad block");
  });

  test("a read-only disk refuses writes, keeps its data, and says so", async () => {
    const machine = await boot({ spec: "disk.img,raw,xvda,r" });
    const frontend = await connect(machine);
    frontend.write(0, new Uint8Array(512).fill(9));
    frontend.read(0, 512);
    await machine.run();
    expect(frontend.responses().map((r) => r.status)).toEqual([BLKIF_RSP.ERROR, BLKIF_RSP.OKAY]);
    expect(machine.host.files.get("disk.img")![0]).toBe(0);
    expect(machine.guests[0]!.backend("vbd", 51712, "mode")).toBe("r");
    expect(machine.guests[0]!.backend("vbd", 51712, "info")).toBe("4");
  });

  test("says what it does not support", async () => {
    const machine = await boot();
    const frontend = await connect(machine);
    frontend.raw({ operation: BLKIF_OP.RESERVED_1, segments: [] });
    frontend.raw({ operation: 99, segments: [] });
    await machine.run();
    expect(frontend.responses().map((r) => r.status)).toEqual([BLKIF_RSP.EOPNOTSUPP, BLKIF_RSP.EOPNOTSUPP]);
  });

  test("the last sector can be read and the one after it cannot", async () => {
    const machine = await boot();
    const frontend = await connect(machine);
    frontend.read(SECTORS - 1, 512);
    frontend.read(SECTORS - 1, 1024);
    frontend.read(SECTORS, 512);
    await machine.run();
    expect(frontend.responses().map((r) => r.status)).toEqual([BLKIF_RSP.ERROR, BLKIF_RSP.ERROR, BLKIF_RSP.OKAY]);
  });

  test("a read into a frame that is granted read-only is refused", async () => {
    const machine = await boot();
    const guest = machine.guests[0]!;
    const frontend = await connect(machine);
    const reference = guest.grant(guest.frame(), true);
    frontend.raw({ operation: BLKIF_OP.READ, segments: [{ reference, first: 0, last: 0 }] });
    await machine.run();
    expect(frontend.responses().map((r) => r.status)).toEqual([BLKIF_RSP.ERROR]);
    expect(guest.inUse(reference)).toBe(false);
  });

  test("a disconnect in the middle of I/O lets go at once, waits for the host, and the next connection works", async () => {
    const host = new MemoryHost();
    let release: () => void = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    host.gate = (operation) => (operation.startsWith("read 4096 ") ? gate : Promise.resolve());
    const machine = await boot({ host });
    const guest = machine.guests[0]!;
    const frontend = await connect(machine);
    const id = frontend.read(8, 4096);
    await machine.run({ done: () => guest.inUse(frontend.part(id).reference) });
    guest.write(`${DIRECTORY}/state`, XenbusState.Closing);
    setTimeout(release, 20);
    await machine.run();
    expect(guest.inUse(frontend.part(id).reference)).toBe(false);
    expect(guest.domain.grants.activeCount).toBe(0);
    expect(frontend.data(id, 4096).every((byte) => byte === 0)).toBe(true);
    guest.write(`${DIRECTORY}/state`, XenbusState.Closed);
    await machine.run();
    guest.write(`${DIRECTORY}/state`, XenbusState.Initialising);
    await machine.run();
    const again = await connect(machine);
    const second = again.read(8, 512);
    await machine.run();
    expect(again.responses()).toEqual([{ id: 1, operation: BLKIF_OP.READ, status: BLKIF_RSP.OKAY }]);
    expect(again.data(second, 512)[0]).toBe(8);
  });

  test("the domain's end in the middle of I/O closes the file after it", async () => {
    const host = new MemoryHost();
    host.gate = () => new Promise((resolve) => setTimeout(resolve, 10));
    const machine = await boot({ host });
    const frontend = await connect(machine);
    frontend.write(0, new Uint8Array(4096).fill(5));
    await machine.run({
      done: () => frontend.guest.inUse(frontend.part(1).reference) || machine.host.opened[0]!.operations.length > 0,
    });
    await machine.hypervisor.destroyDomain(frontend.guest.domain);
    expect(machine.host.opened[0]!.closed).toBe(true);
    expect(machine.host.files.get("disk.img")![100]).toBe(5);
    await machine.run();
    expect(machine.hypervisor.machine.frames.ownedBy(frontend.guest.domain.id)).toBe(0);
  });

  test("a ring of several pages", async () => {
    const machine = await boot();
    const guest = machine.guests[0]!;
    guest.write(`${DIRECTORY}/ring-page-order`, "1");
    const frames = [guest.frame(), guest.frame()];
    for (const [i, frame] of frames.entries()) guest.write(`${DIRECTORY}/ring-ref${i}`, guest.grant(frame));
    guest.write(`${DIRECTORY}/event-channel`, guest.port());
    guest.write(`${DIRECTORY}/state`, XenbusState.Initialised);
    await machine.run();
    expect(guest.backend("vbd", 51712, "state")).toBe(String(XenbusState.Connected));
    expect(guest.domain.grants.activeCount).toBe(2);
  });
});
