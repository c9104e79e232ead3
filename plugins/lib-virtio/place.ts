/**
 * Where a virtio device is: its address and interrupt line, as its spec says or in the lowest free slot.
 *
 * Slots are those of QEMU's RISC-V board `virt`: slot n is at 0x10001000 + n * 0x1000 with line 1 + n. `slot=N`, or `base=ADDRESS,line=N`, stand
 * anywhere in the spec; the rest is the device type's own.
 */
import { ConfigError, type DeviceHost } from "hookvisor";

/** Bytes of a device's region. */
export const SLOT_SIZE = 0x1000;
const FIRST_BASE = 0x1000_1000;
const FIRST_LINE = 1;
/** Slots at most. */
export const SLOTS = 64;

/** What a spec says of the place; null: any slot that is free. */
export type PlaceSpec = { readonly slot: number } | { readonly base: number; readonly line: number } | null;

/** Where a device is. */
export interface Place {
  readonly base: number;
  readonly line: number;
}

/** Takes the place out of a spec; ConfigError that begins with `what`. `target=`, as disks have it, takes the rest of a spec. */
export function splitPlace(what: string, spec: string): { readonly place: PlaceSpec; readonly rest: string } {
  const fail = (why: string): never => {
    throw new ConfigError(`${what} '${spec}': ${why}.`);
  };
  const given = new Map<string, number>();
  const rest: string[] = [];
  const parts = spec.split(",");
  for (const [i, part] of parts.entries()) {
    if (/^\s*target=/.test(part)) {
      rest.push(...parts.slice(i));
      break;
    }
    const match = /^\s*(slot|base|line)\s*=\s*(.*?)\s*$/s.exec(part);
    if (match === null) {
      rest.push(part);
      continue;
    }
    const [, key = "", text = ""] = match;
    const most = key === "slot" ? SLOTS - 1 : key === "line" ? 1023 : 2 ** 40;
    const value = /^(?:0x[0-9a-f]{1,12}|\d{1,15})$/i.test(text) ? Number(text) : Number.NaN;
    if (!(value <= most)) fail(`${key} is '${text}'; it must be a number from 0 to ${most}`);
    if (given.has(key)) fail(`it gives ${key} twice`);
    given.set(key, value);
  }
  const [slot, base, line] = ["slot", "base", "line"].map((key) => given.get(key));
  if (slot !== undefined && (base !== undefined || line !== undefined))
    fail("it gives a slot and an address; leave one out");
  if ((base === undefined) !== (line === undefined)) fail("base and line go together");
  if (base !== undefined && base % SLOT_SIZE !== 0) fail(`base must be a multiple of ${SLOT_SIZE}`);
  const place = slot !== undefined ? { slot } : base !== undefined && line !== undefined ? { base, line } : null;
  return { place, rest: rest.join(",") };
}

/** The place of a device among those that its domain has. ConfigError where no slot is free. */
export function choosePlace(spec: PlaceSpec, host: Pick<DeviceHost, "neighbours">): Place {
  if (spec !== null && "base" in spec) return spec;
  const at = (slot: number): Place => ({ base: FIRST_BASE + slot * SLOT_SIZE, line: FIRST_LINE + slot });
  if (spec !== null) return at(spec.slot);
  const neighbours = host.neighbours();
  for (let slot = 0; slot < SLOTS; slot++) {
    const { base, line } = at(slot);
    const taken = neighbours.some(
      ({ regions, description }) =>
        description?.interrupts.includes(line) === true ||
        regions.some((one) => one.space === "mmio" && one.base < base + SLOT_SIZE && base < one.base + one.size),
    );
    if (!taken) return { base, line };
  }
  throw new ConfigError(`All ${SLOTS} slots for virtio devices are taken; give the device a base and a line.`);
}
