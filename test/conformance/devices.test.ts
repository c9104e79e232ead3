/** The built-in devices pass the kit that a third party runs. */
import { describe, expect, test } from "vitest";
import deviceConsole from "../../plugins/device-console/plugin.ts";
import deviceVbd from "../../plugins/device-vbd/plugin.ts";
import { consoleFrontend } from "../plugins/device-console/frontend.ts";
import { BlkFrontend } from "../plugins/device-vbd/frontend.ts";
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
