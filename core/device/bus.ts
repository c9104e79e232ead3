/**
 * The I/O port and MMIO bus of one domain: which emulated device answers an address.
 *
 * A device sees a region and an offset, never its address. Invariants: regions do not overlap (an overlap is an error that names both
 * devices); an access that no device claims reads all ones and writes nothing, as on a PC; an access that straddles
 * the end of a region reaches the devices byte by byte.
 */
import type { Exit } from "../architecture/arch-backend.ts";
import { ConfigError } from "../errors.ts";
import type { EmulatedDevice } from "./device-type.ts";

interface Slot {
  readonly name: string;
  readonly device: EmulatedDevice;
  readonly region: number;
  readonly space: "pio" | "mmio";
  readonly base: number;
  readonly end: number;
}

export class Bus {
  readonly #slots: Slot[] = [];
  readonly #failed: (device: EmulatedDevice, error: unknown) => void;

  /** `failed` is told of what a device throws; it may remove the device. Without it, access throws that on. */
  constructor(failed?: (device: EmulatedDevice, error: unknown) => void) {
    this.#failed =
      failed ??
      ((_device, error) => {
        throw error;
      });
  }

  /** Adds a device's regions; ConfigError on an overlap. */
  add(name: string, device: EmulatedDevice): void {
    for (const { space, base, size } of device.regions)
      if (!Number.isSafeInteger(base) || base < 0 || !Number.isSafeInteger(size) || size < 1)
        throw new ConfigError(`Device '${name}' wants ${size} bytes of ${space} at ${base}; that is no region.`);
    const slots = device.regions.map((r, region) => ({
      name,
      device,
      region,
      space: r.space,
      base: r.base,
      end: r.base + r.size,
    }));
    for (const slot of slots)
      for (const other of [...this.#slots, ...slots])
        if (other !== slot && other.space === slot.space && slot.base < other.end && other.base < slot.end)
          throw new ConfigError(
            `Device '${name}' wants ${slot.space} 0x${slot.base.toString(16)}..0x${(slot.end - 1).toString(16)}, which overlaps device '${other.name}' at 0x${other.base.toString(16)}; move one of them.`,
          );
    this.#slots.push(...slots);
  }

  remove(device: EmulatedDevice): void {
    for (let i = this.#slots.length - 1; i >= 0; i--) if (this.#slots[i]!.device === device) this.#slots.splice(i, 1);
  }

  /** Answers an access: fills exit.valueLo and valueHi of a read. */
  access(exit: Exit): void {
    if (exit.size === 8) {
      exit.valueLo = this.#part(exit, 0, 4, exit.valueLo);
      exit.valueHi = this.#part(exit, 4, 4, exit.valueHi);
    } else {
      exit.valueLo = this.#part(exit, 0, exit.size, exit.valueLo);
      exit.valueHi = 0;
    }
  }

  #part(exit: Exit, at: number, size: 1 | 2 | 4, value: number): number {
    const address = exit.addressHi * 2 ** 32 + exit.addressLo + at;
    const slot = this.#find(exit.space, address, address + size);
    const ones = 2 ** (8 * size) - 1;
    if (slot === null) return exit.write ? value : ones;
    if (address >= slot.base && address + size <= slot.end) {
      try {
        if (!exit.write) return (slot.device.read(slot.region, address - slot.base, size) & ones) >>> 0;
        slot.device.write(slot.region, address - slot.base, size, (value & ones) >>> 0);
      } catch (error) {
        this.#failed(slot.device, error);
        return ones;
      }
      return value;
    }
    let result = 0;
    for (let byte = 0; byte < size; byte++) {
      const one = this.#part(exit, at + byte, 1, (value >>> (8 * byte)) & 0xff) & 0xff;
      result = (result | (one << (8 * byte))) >>> 0;
    }
    return result;
  }

  /** The first region that has a byte of [from, to). */
  #find(space: "pio" | "mmio", from: number, to: number): Slot | null {
    for (const slot of this.#slots) if (slot.space === space && from < slot.end && to > slot.base) return slot;
    return null;
  }
}
