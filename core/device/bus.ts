/**
 * The I/O port and MMIO bus of one domain: which emulated device answers an address.
 *
 * A device sees a region and an offset, never its address. Invariants: regions do not overlap (an overlap is an error that names both
 * devices); an access that no device claims reads all ones and writes nothing, as on a PC; an access that straddles
 * the end of a region reaches the devices byte by byte.
 */
import type { Exit } from "../arch/arch-backend.ts";
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

  /** Adds a device's regions; ConfigError on an overlap. */
  add(name: string, device: EmulatedDevice): void {
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
    const slot = this.#find(exit.space, address);
    if (slot !== null && address + size <= slot.end) {
      if (exit.write) {
        slot.device.write(slot.region, address - slot.base, size, value >>> 0);
        return value;
      }
      return slot.device.read(slot.region, address - slot.base, size) >>> 0;
    }
    if (size === 1 || (slot === null && this.#find(exit.space, address + size - 1) === null))
      return exit.write ? value : size === 4 ? 0xffffffff : 2 ** (8 * size) - 1;
    let result = 0;
    for (let byte = 0; byte < size; byte++) {
      const one = this.#part(exit, at + byte, 1, (value >>> (8 * byte)) & 0xff) & 0xff;
      result = (result | (one << (8 * byte))) >>> 0;
    }
    return result;
  }

  #find(space: "pio" | "mmio", address: number): Slot | null {
    for (const slot of this.#slots) if (slot.space === space && address >= slot.base && address < slot.end) return slot;
    return null;
  }
}
