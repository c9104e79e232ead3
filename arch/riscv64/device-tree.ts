/**
 * The device tree that a domain finds: its harts, memory, devices, what to boot with, and Xen.
 *
 * Sources: Devicetree Specification 0.4; Linux's bindings riscv/cpus.yaml, riscv/extensions.yaml, interrupt-controller/riscv,cpu-intc.yaml,
 * sifive,plic-1.0.0.yaml, arm/xen.txt (which the node /hypervisor follows). A device's node is what the device says of itself
 * (DeviceDescription); only what binds an interrupt controller to harts is added here.
 */
import type { PlacedDevice } from "hookvisor";
import { IRQ_EXTERNAL, IRQ_LOCAL } from "./cpu.ts";
import { cells64, type FdtNode, type FdtValue, node, writeFdt } from "./fdt.ts";
import { RAM_BASE } from "./loader.ts";

/** Ticks of the time CSR a second. */
export const TIMEBASE = 10_000_000;

/** Where grant table frames may be put: what the node /hypervisor has as its region (as on Arm: GUEST_GNTTAB_BASE). */
export const GRANT_TABLE_BASE = 0x3800_0000;
export const GRANT_TABLE_SIZE = 0x0100_0000;

/** Extensions, in canonical order; those with one letter are in ISA_BASE too. */
const LETTERS = ["i", "m", "a", "f", "d", "c"];
const NAMED = ["zicntr", "zicsr", "zifencei", "zihintpause"];

/** What a tree is made of. Addresses are guest-physical. */
export interface MachineFacts {
  readonly harts: number;
  /** Bytes of RAM from RAM_BASE on. */
  readonly memory: number;
  readonly commandLine: string;
  /** 0, 0: none. */
  readonly ramdisk: { readonly start: number; readonly end: number };
  readonly devices: readonly PlacedDevice[];
  /** Random bytes for the guest's generator. */
  readonly seed: Uint8Array;
  readonly xenVersion: { readonly major: number; readonly minor: number };
}

/** Handles of nodes that others refer to. */
const HART_INTC = 1;

/** Names that serial ports are known by: the first such device is stdout. */
const SERIAL = /^(ns16550a?|ns8250|sifive,uart0|arm,pl011)$/;

const isController = (device: PlacedDevice): boolean =>
  device.description?.properties?.["interrupt-controller"] !== undefined;

/** Makes the blob. */
export function makeDeviceTree(facts: MachineFacts): Uint8Array {
  const { harts, devices } = facts;
  const told = devices.filter(({ description, regions }) => description !== null && mmio(regions) !== undefined);
  const controller = HART_INTC + harts;
  const bus = told.map((device) => deviceNode(device, harts, controller));
  const serial = told.findIndex(({ description }) => description!.compatible.some((name) => SERIAL.test(name)));
  const stdout = serial < 0 ? undefined : `/soc/${bus[serial]!.name}`;
  const { start, end } = facts.ramdisk;
  return writeFdt(
    node(
      "",
      {
        "#address-cells": [2],
        "#size-cells": [2],
        compatible: ["hookvisor,riscv64", "riscv-virtio"],
        model: "hookvisor",
      },
      [
        node("chosen", {
          bootargs: facts.commandLine,
          "stdout-path": stdout,
          ...(end > start ? { "linux,initrd-start": cells64(start), "linux,initrd-end": cells64(end) } : {}),
          "rng-seed": facts.seed,
        }),
        ...(stdout === undefined ? [] : [node("aliases", { serial0: stdout })]),
        node(`memory@${RAM_BASE.toString(16)}`, {
          device_type: "memory",
          reg: [...cells64(RAM_BASE), ...cells64(facts.memory)],
        }),
        node(
          "cpus",
          { "#address-cells": [1], "#size-cells": [0], "timebase-frequency": [TIMEBASE] },
          Array.from({ length: harts }, (_, hart) => hartNode(hart)),
        ),
        hypervisorNode(facts),
        node("soc", { "#address-cells": [2], "#size-cells": [2], compatible: "simple-bus", ranges: true }, bus),
      ],
    ),
  );
}

function hartNode(hart: number): FdtNode {
  return node(
    `cpu@${hart.toString(16)}`,
    {
      device_type: "cpu",
      reg: [hart],
      status: "okay",
      compatible: "riscv",
      "riscv,isa": `rv64${LETTERS.join("")}_${NAMED.join("_")}`,
      "riscv,isa-base": "rv64i",
      "riscv,isa-extensions": [...LETTERS, ...NAMED],
      "mmu-type": "riscv,sv48",
    },
    [
      node("interrupt-controller", {
        compatible: "riscv,cpu-intc",
        "#interrupt-cells": [1],
        "interrupt-controller": true,
        phandle: [HART_INTC + hart],
      }),
    ],
  );
}

/** The lines of all harts for one cause. */
function hartLines(harts: number, cause: number): number[] {
  return Array.from({ length: harts }, (_, hart) => [HART_INTC + hart, cause]).flat();
}

function hypervisorNode({ harts, xenVersion: { major, minor } }: MachineFacts): FdtNode {
  return node("hypervisor", {
    compatible: [`xen,xen-${major}.${minor}`, "xen,xen"],
    reg: [...cells64(GRANT_TABLE_BASE), ...cells64(GRANT_TABLE_SIZE)],
    "interrupts-extended": hartLines(harts, IRQ_LOCAL),
  });
}

const mmio = (regions: PlacedDevice["regions"]) => regions.find((region) => region.space === "mmio");

function deviceNode(device: PlacedDevice, harts: number, controller: number): FdtNode {
  const { compatible, interrupts, properties = {} } = device.description!;
  const reg = device.regions.flatMap(({ space, base, size }) =>
    space === "mmio" ? [...cells64(base), ...cells64(size)] : [],
  );
  const own: Record<string, FdtValue> = { compatible, reg };
  if (isController(device)) {
    own["phandle"] = [controller];
    own["interrupts-extended"] = hartLines(harts, IRQ_EXTERNAL);
  } else if (interrupts.length > 0) {
    own["interrupts"] = interrupts;
    own["interrupt-parent"] = [controller];
  }
  const name = device.type.replace(/[^A-Za-z0-9,._+-]/g, "-");
  return node(`${name}@${mmio(device.regions)!.base.toString(16)}`, { ...own, ...properties });
}
