/** The built-in devices pass the kit that a third party runs. */
import { describe, expect, test } from "vitest";
import deviceConsole from "../../plugins/device-console/plugin.ts";
import deviceVbd from "../../plugins/device-vbd/plugin.ts";
import deviceVif from "../../plugins/device-vif/plugin.ts";
import { consoleFrontend } from "../plugins/device-console/frontend.ts";
import { BlkFrontend } from "../plugins/device-vbd/frontend.ts";
import { EVERYBODY, ethernet, VifFrontend } from "../plugins/device-vif/frontend.ts";
import { type AsyncSuiteFramework, deviceSuite } from "./device.ts";

const framework: AsyncSuiteFramework = {
  describe,
  test,
  check: (ok, message) => expect(ok, message).toBe(true),
};

deviceSuite(framework, {
  type: "console",
  plugin: deviceConsole,
  spec: "",
  badSpecs: ["pty"],
  directory: null,
  connect: (guest) => consoleFrontend(guest),
  async work(machine, guest, link) {
    link.print("hello");
    await machine.run();
    machine.host.terminal(guest.domain, 0).type("ls\n");
    await machine.run();
    return machine.host.terminal(guest.domain, 0).text === "hello" && link.typed() === "ls\n";
  },
  hostile: [
    { name: "wild output index", act: (_guest, link) => link.set("out_prod", 0x8000_0000) },
    { name: "wild input index", act: (_guest, link) => link.set("in_cons", 5) },
  ],
});

deviceSuite(framework, {
  type: "vbd",
  plugin: deviceVbd,
  spec: "disk.img,raw,xvda,w",
  badSpecs: [
    "",
    "disk.img",
    "disk.img,qcow2,xvda,w",
    "disk.img,raw,nonsense,w",
    "disk.img,raw,xvda,x",
    "missing.img,raw,xvda,r",
    "empty.img,raw,xvda,r",
  ],
  directory: "device/vbd/51712",
  prepare(host) {
    host.files.set(
      "disk.img",
      Uint8Array.from({ length: 64 * 512 }, (_, i) => (i * 7) & 255),
    );
    host.files.set("empty.img", new Uint8Array(0));
  },
  connect: (guest) => new BlkFrontend(guest, "device/vbd/51712"),
  async work(machine, _guest, link) {
    link.write(
      3,
      Uint8Array.from({ length: 1024 }, (_, i) => i & 255),
    );
    link.push();
    await machine.run();
    const id = link.read(3, 1024);
    link.push();
    await machine.run();
    const [written, read] = link.responses();
    return written?.status === 0 && read?.status === 0 && link.data(id, 1024).every((byte, i) => byte === (i & 255));
  },
  hostile: [
    { name: "wild request producer", act: (_guest, link) => link.wildProducer() },
    {
      name: "segments beyond the frame",
      act: (_guest, link) => link.raw({ operation: 0, segments: [{ reference: 8, first: 3, last: 9 }] }),
    },
    {
      name: "reversed segment",
      act: (_guest, link) => link.raw({ operation: 0, segments: [{ reference: 8, first: 5, last: 2 }] }),
    },
    { name: "too many segments", act: (_guest, link) => link.raw({ operation: 1, count: 200, segments: [] }) },
    {
      name: "sectors beyond the disk",
      act: (_guest, link) =>
        link.raw({ operation: 0, sector: 2 ** 63, segments: [{ reference: 8, first: 0, last: 0 }] }),
    },
    {
      name: "bad grant references",
      act: (_guest, link) => link.raw({ operation: 0, segments: [{ reference: 0xffff_ffff, first: 0, last: 7 }] }),
    },
    { name: "unknown operation", act: (_guest, link) => link.raw({ operation: 77, segments: [] }) },
    { name: "the ring's grant taken away", act: (guest, link) => guest.setGrant(link.ringReference, 0, 0) },
  ],
});

deviceSuite(framework, {
  type: "vif",
  plugin: deviceVif,
  spec: "mtu=9000",
  badSpecs: [
    "mac",
    "mac=12",
    "mac=01:00:5e:00:00:01",
    "bridge=a/b",
    "mac=00:16:3e:01:02:03,mac=00:16:3e:01:02:03",
    "mtu=1",
    "speed=9",
    "type=tap",
    "backend=netdom",
  ],
  directory: "device/vif/0",
  connect(guest) {
    const link = new VifFrontend(guest, "device/vif/0");
    link.post(8);
    return link;
  },
  async work(machine, _guest, link) {
    const one = link.send(ethernet(EVERYBODY, "00:16:3e:00:00:77"));
    await machine.run();
    const [several] = [link.send(ethernet(EVERYBODY, "00:16:3e:00:00:77", 8000), { part: 3000, offset: 1000 })];
    await machine.run();
    const answers = link.answers();
    return answers.length === one.length + several.length && answers.every(({ status }) => status === 0);
  },
  hostile: [
    { name: "wild transmit producer", act: (_guest, link) => link.wildProducer("tx") },
    { name: "wild receive producer", act: (_guest, link) => link.wildProducer("rx") },
    {
      name: "a packet of no bytes",
      act: (_guest, link) => link.raw([{ reference: link.buffer().reference, size: 0 }]),
    },
    {
      name: "bytes beyond the frame",
      act: (_guest, link) => link.raw([{ reference: link.buffer().reference, offset: 0xffff, size: 0xffff }]),
    },
    { name: "a bad grant reference", act: (_guest, link) => link.raw([{ reference: 0xffff_ffff, size: 60 }]) },
    {
      name: "a chain that does not end",
      act: (_guest, link) =>
        link.raw(Array.from({ length: 200 }, () => ({ reference: link.buffer().reference, flags: 4, size: 60 }))),
    },
    {
      name: "a slot that is announced and not there",
      act: (_guest, link) => link.raw([{ reference: link.buffer().reference, flags: 4, size: 60 }]),
    },
    {
      name: "an unknown extra segment",
      act: (_guest, link) =>
        link.raw([{ reference: link.buffer().reference, flags: 8, size: 60 }, { extra: { type: 99 } }]),
    },
    {
      name: "segmentation into nothing",
      act: (_guest, link) =>
        link.raw([{ reference: link.buffer().reference, flags: 9, size: 60 }, { extra: { type: 1, size: 0, gso: 1 } }]),
    },
    { name: "the ring's grant taken away", act: (guest, link) => guest.setGrant(link.txReference, 0, 0) },
  ],
});
