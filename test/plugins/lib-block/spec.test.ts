/** Disk specifications in xl's syntax, and vdev numbers as xen-vbd-interface(7) has them. */
import { describe, expect, test } from "vitest";
import { parseDiskSpec } from "../../../plugins/lib-block/spec.ts";
import { vdevNumber } from "../../../plugins/lib-block/vdev.ts";

describe("disk specs", () => {
  const xvda = { vdev: "xvda", number: 51712, cdrom: false };
  test.each([
    ["disk.img,raw,xvda,w", { target: "disk.img", ...xvda, writable: true }],
    ["disk.img,raw,xvda,r", { target: "disk.img", ...xvda, writable: false }],
    ["disk.img,,xvda", { target: "disk.img", ...xvda, writable: true }],
    [" disk.img , raw , xvda , rw ", { target: "disk.img", ...xvda, writable: true }],
    ["format=raw, vdev=xvda, access=ro, target=/a, b,c", { target: "/a, b,c", ...xvda, writable: false }],
    ["vdev=xvda,target=disk.img", { target: "disk.img", ...xvda, writable: true }],
    ["phy:/dev/vg/guest,xvda,w", { target: "/dev/vg/guest", ...xvda, writable: true }],
    ["file:/var/disk.img,xvda,r", { target: "/var/disk.img", ...xvda, writable: false }],
    ["tap:aio:/var/disk.img,xvda,w", { target: "/var/disk.img", ...xvda, writable: true }],
    ["disk.img,raw,xvda,w,discard,backendtype=qdisk", { target: "disk.img", ...xvda, writable: true }],
    ["cd.iso,raw,hdc:cdrom,r", { target: "cd.iso", vdev: "hdc", number: 5632, cdrom: true, writable: false }],
    ["cd.iso,,hdc,cdrom", { target: "cd.iso", vdev: "hdc", number: 5632, cdrom: true, writable: false }],
    [
      "devtype=cdrom,vdev=hdc,target=cd.iso",
      { target: "cd.iso", vdev: "hdc", number: 5632, cdrom: true, writable: false },
    ],
  ])("%s", (spec, expected) => {
    expect(parseDiskSpec(spec)).toEqual({ overlay: null, discard: true, ...expected });
  });

  test.each([
    ["disk.img,raw,xvda,w,cow=temp", { overlay: "temporary", discard: true }],
    ["disk.img,raw,xvda,w,cow=changes.cow,no-discard", { overlay: { file: "changes.cow" }, discard: false }],
    ["vdev=xvda,overlay=/a b/c.cow,target=disk.img", { overlay: { file: "/a b/c.cow" }, discard: true }],
  ])("%s", (spec, expected) => {
    expect(parseDiskSpec(spec)).toEqual({ target: "disk.img", ...xvda, writable: true, ...expected });
  });

  test("errors", () => {
    const texts = [
      "",
      "disk.img",
      "disk.img,raw",
      "disk.img,qcow2,xvda,w",
      "disk.img,tar,xvda,w",
      "tap:qcow2:disk.img,xvda,w",
      "disk.img,raw,floppy,w",
      "disk.img,raw,xvda0,w",
      "disk.img,raw,xvda,x",
      "disk.img,raw,xvda,w,extra,more",
      "disk.img,raw,xvda,vdev=xvdb",
      "nbd:host:10809,raw,xvda,w",
      "disk.img,raw,xvda,w,script=block-iscsi",
      "disk.img,raw,xvda,w,speed=9",
      "cd.iso,raw,hdc:cdrom,w",
      "disk.img,raw,xvda,r,cow=temp",
      "disk.img,raw,xvda,w,cow=",
      "disk.img,raw,xvda,w,cow=a,overlay=b",
    ].map((spec) => {
      try {
        return JSON.stringify(parseDiskSpec(spec));
      } catch (error) {
        return (error as Error).message;
      }
    });
    expect(texts).toMatchInlineSnapshot(`
      [
        "Disk '': it names no image file; an example is disk.img,raw,xvda,w.",
        "Disk 'disk.img': it names no virtual device; an example is disk.img,raw,xvda,w.",
        "Disk 'disk.img,raw': it names no virtual device; an example is disk.img,raw,xvda,w.",
        "Disk 'disk.img,qcow2,xvda,w': format qcow2 is not supported, only raw; convert it with qemu-img convert -O raw.",
        "Disk 'disk.img,tar,xvda,w': there is no format 'tar'; use raw.",
        "Disk 'tap:qcow2:disk.img,xvda,w': format qcow2 is not supported, only raw; convert it with qemu-img convert -O raw.",
        "Disk 'disk.img,raw,floppy,w': 'floppy' is no virtual device; use a name such as xvda, xvdb1, hda or sda.",
        "Disk 'disk.img,raw,xvda0,w': 'xvda0' is no virtual device; use a name such as xvda, xvdb1, hda or sda.",
        "Disk 'disk.img,raw,xvda,x': access is 'x'; it must be r or w.",
        "Disk 'disk.img,raw,xvda,w,extra,more': there is no parameter 'extra'.",
        "Disk 'disk.img,raw,xvda,vdev=xvdb': it gives vdev twice.",
        "Disk 'nbd:host:10809,raw,xvda,w': its kind of target is not supported; give the path of a raw image.",
        "Disk 'disk.img,raw,xvda,w,script=block-iscsi': 'script' is not supported; backends run inside the hypervisor.",
        "Disk 'disk.img,raw,xvda,w,speed=9': there is no parameter 'speed'; there are format, vdev, access, devtype, cow, target.",
        "Disk 'cd.iso,raw,hdc:cdrom,w': a CD-ROM is read-only; give the access r.",
        "Disk 'disk.img,raw,xvda,r,cow=temp': cow is for a disk that is written; give the access w, or leave cow out.",
        "Disk 'disk.img,raw,xvda,w,cow=': cow names no file; use cow=FILE or cow=temp.",
        "Disk 'disk.img,raw,xvda,w,cow=a,overlay=b': it gives cow twice.",
      ]
    `);
  });
});

test.each([
  ["xvda", 51712],
  ["xvda1", 51713],
  ["xvdb", 51728],
  ["xvdp15", 51967],
  ["xvdq", (1 << 28) | (16 << 8)],
  ["xvdaa", (1 << 28) | (26 << 8)],
  ["xvda16", (1 << 28) | 16],
  ["hda", 768],
  ["hdb", 832],
  ["hdc", 5632],
  ["hdd2", 5698],
  ["hde", null],
  ["sda", 2048],
  ["sdb3", 2067],
  ["sdq", null],
  ["d0", 51712],
  ["d1p2", 51730],
  ["51712", 51712],
  ["0xca00", 51712],
  ["xvd", null],
  ["vda", null],
  ["", null],
])("vdev %s is %s", (name, number) => {
  expect(vdevNumber(name)).toBe(number);
});

test("virtio's names of disks are xvda's by another name, where they are wanted", () => {
  expect([vdevNumber("vda", true), vdevNumber("vdc2", true), vdevNumber("xvda", true)]).toEqual([51712, 51746, 51712]);
  expect([vdevNumber("vda"), vdevNumber("vd", true), vdevNumber("vdx1x", true)]).toEqual([null, null, null]);
  expect(parseDiskSpec("a.img,raw,vdb,w", true)).toMatchObject({ vdev: "vdb", number: 51728 });
  expect(() => parseDiskSpec("a.img,raw,vdb,w")).toThrow(/is no virtual device/);
});
