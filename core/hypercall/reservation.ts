/** A domain's memory as reservations see it: how much it has, which frames it may give back, and extents of fresh frames. */
import type { Domain } from "../domain/domain.ts";
import { type Mfn, OutOfFrames } from "../machine/frames.ts";
import type { Machine } from "../machine/machine.ts";

/** The largest extent of a guest: 2^9 frames (Xen: CONFIG_DOMU_MAX_ORDER). */
export const MAX_ORDER = 9;

/** Frames that are the domain's memory: what it owns, less the shared info page and the grant table. */
export function memoryFrames(machine: Machine, domain: Domain): number {
  const shared = domain.sharedInfo < 0 ? 0 : 1;
  return machine.frames.ownedBy(domain.id) - shared - domain.grants.ownFrames;
}

/** Is this a frame of the domain that nothing but its allocation holds? */
export function isSpare(machine: Machine, domain: Domain, mfn: number): boolean {
  const { frames } = machine;
  const held = frames.allocated[mfn] === 1 && frames.refs[mfn] === 1 && frames.typeCount[mfn] === 0;
  return held && frames.owns(domain.id, mfn);
}

/** Is this a frame of the domain's memory that it has not given back yet? It may be in use. */
export function isMemory(machine: Machine, domain: Domain, mfn: number): boolean {
  const { frames } = machine;
  if (!frames.owns(domain.id, mfn) || frames.allocated[mfn] === 0) return false;
  return mfn !== domain.sharedInfo && !domain.grants.isGrantFrame(mfn);
}

/** 2^order fresh frames with consecutive, aligned numbers for the domain, within its maximum; -1: none. */
export function allocateExtent(machine: Machine, domain: Domain, order: number): Mfn {
  const count = 2 ** order;
  if (memoryFrames(machine, domain) + count > domain.maxFrames) return -1;
  try {
    if (order === 0) return machine.frames.allocate(domain.id, 1)[0]!;
    return machine.frames.allocateContiguous(domain.id, count, count);
  } catch (error) {
    if (error instanceof OutOfFrames) return -1;
    throw error;
  }
}
