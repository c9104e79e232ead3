/** The built-in emulated devices pass the kit that a third party runs. */
import { describe, expect, test } from "vitest";
import devicePlic from "../../plugins/device-plic/plugin.ts";
import deviceUart from "../../plugins/device-uart16550/plugin.ts";
import deviceVirtioBlk from "../../plugins/device-virtio-blk/plugin.ts";
import deviceVirtioNet from "../../plugins/device-virtio-net/plugin.ts";
import { MMIO, VIRTIO_F } from "../../plugins/lib-virtio/index.ts";
import { EVERYBODY, ethernet } from "../plugins/device-vif/frontend.ts";
import { BlkDriver } from "../plugins/device-virtio-blk/driver.ts";
import { NetDriver } from "../plugins/device-virtio-net/driver.ts";
import type { ScriptedGuest } from "../support/scripted-frontend.ts";
import { VirtioDriver } from "../support/virtio-driver.ts";
import type { AsyncSuiteFramework } from "./device.ts";
import { emulatedDeviceSuite } from "./emulated-device.ts";

const framework: AsyncSuiteFramework = {
  describe,
  test,
  check: (ok, message) => expect(ok, message).toBe(true),
};

const PLIC = 0xc00_0000;

emulatedDeviceSuite(framework, {
  type: "plic",
  plugin: devicePlic,
  spec: "harts=1,sources=31",
  badSpecs: ["harts=0", "sources=2000", "base=x", "lines=3"],
  controller: true,
  async work(machine, guest) {
    const [plic] = machine.hypervisor.devices.list(guest.domain);
    guest.ioWrite(PLIC + 4 * 3, 5);
    guest.ioWrite(PLIC + 0x2000, 1 << 3);
    guest.ioWrite(PLIC + 0x20_0000, 4);
    const set = [guest.ioRead(PLIC + 12), guest.ioRead(PLIC + 0x2000), guest.ioRead(PLIC + 0x20_0000)];
    return plic !== undefined && set.join() === "5,8,4" && guest.ioRead(PLIC + 0x20_0004) === 0;
  },
  hostile: [
    { name: "completion of everything", act: (guest) => guest.ioWrite(PLIC + 0x20_0004, 0xffff_ffff) },
    { name: "contexts that are not there", act: (guest) => guest.ioWrite(PLIC + 0x3ff_f004, 1) },
  ],
});

const UART = 0x1000_0000;

emulatedDeviceSuite(framework, {
  type: "uart16550",
  plugin: deviceUart,
  spec: "base=0x10000000,line=10",
  badSpecs: ["", "line=10", "base=0x10000000,space=isa", "base=0x10000000,base=1", "base=0x10000000,clock=0"],
  async work(machine, guest) {
    const terminal = machine.host.terminal(guest.domain, 0);
    guest.ioWrite(UART, 0x21, 1);
    terminal.type("k");
    const status = guest.ioRead(UART + 5, 1);
    return status === 0x61 && guest.ioRead(UART, 1) === 0x6b && terminal.text.endsWith("!");
  },
  hostile: [
    {
      name: "interrupts and loopback without end",
      act(guest) {
        for (let i = 0; i < 1000; i++)
          for (const [register, value] of [
            [4, 0x1f],
            [1, 0x0f],
            [0, i & 255],
            [2, i & 255],
          ] as const)
            guest.ioWrite(UART + register, value, 1);
      },
    },
  ],
});

/** Queues where there is no memory, and a notification. */
function wildRing(guest: ScriptedGuest): void {
  const driver = new VirtioDriver(guest);
  driver.negotiate([VIRTIO_F.version1]);
  driver.place(0, 8, 0x7fff_f000, 0x7fff_f000, 0x7fff_f000);
  driver.ready();
  driver.write(MMIO.queueNotify, 0);
}

emulatedDeviceSuite(framework, {
  type: "virtio-blk",
  plugin: deviceVirtioBlk,
  spec: "disk.img,raw,vda,w,cow=temp",
  badSpecs: [
    "",
    "disk.img",
    "disk.img,qcow2,vda,w",
    "disk.img,raw,vda,w,slot=65",
    "none.img,raw,vda,w",
    "tiny.img,raw,vda,r",
  ],
  prepare(host) {
    host.files.set("disk.img", new Uint8Array(64 * 512));
    host.files.set("tiny.img", new Uint8Array(5));
  },
  async work(machine, guest) {
    const driver = new BlkDriver(guest, undefined, undefined, 8);
    const data = Uint8Array.from({ length: 512 }, (_, i) => (i * 3) & 255);
    driver.writeSectors(7, data);
    const read = driver.readSectors(7, 512);
    await machine.run();
    return driver.answers().join() === "0,0" && driver.data(read.into).join() === data.join();
  },
  hostile: [
    { name: "a ring in nobody's memory", act: wildRing },
    {
      name: "a request without a header",
      act(guest) {
        const driver = new BlkDriver(guest, undefined, undefined, 8);
        driver.queue0.add([], [driver.buffer(1)]);
        driver.queue0.kick();
      },
    },
    {
      name: "a reset in the middle of a read",
      act(guest) {
        const driver = new BlkDriver(guest, undefined, undefined, 8);
        driver.readSectors(0, 4096);
        driver.write(MMIO.status, 0);
      },
    },
  ],
});

emulatedDeviceSuite(framework, {
  type: "virtio-net",
  plugin: deviceVirtioNet,
  spec: "mtu=9000",
  badSpecs: ["mac=12", "bridge=a/b", "slot=-1", "base=0x10001000", "speed=1"],
  async work(machine, guest) {
    const driver = new NetDriver(guest);
    driver.post(2);
    driver.send(ethernet(EVERYBODY, "00:16:3e:00:00:77"));
    await machine.run();
    return driver.sent() === 1 && !driver.needsReset;
  },
  hostile: [
    { name: "a ring in nobody's memory", act: wildRing },
    {
      name: "packets of nothing",
      act(guest) {
        const driver = new NetDriver(guest);
        for (let i = 0; i < 20; i++) driver.transmit.add([driver.buffer(1)], []);
        driver.transmit.kick();
      },
    },
    {
      name: "buffers of nothing, and a packet to oneself",
      act(guest) {
        const driver = new NetDriver(guest);
        driver.post(4, 1);
        driver.send(ethernet(EVERYBODY, EVERYBODY));
      },
    },
  ],
});
