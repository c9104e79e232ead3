/**
 * The grant table of one domain, version 1 (Xen: common/grant_table.c): what it grants, and what others have pinned of it.
 *
 * Design: the shared entries are in frames that the guest maps; everything believed of them is copied into an active entry when
 * the first pin is taken, and each field of a shared entry is read once. A pin is one use of a grant by a domain: a host
 * mapping, a device mapping, or a copy under way.
 * Invariants: an active entry exists exactly while it has pins; each pin holds one reference, and if it writes one writable type
 * reference, of the frame; GTF_reading is set while there are pins, GTF_writing while there are writing ones; the table's own
 * frames belong to the domain, each with one reference and one writable type reference until `destroy`.
 */
import { GNTMAP, GNTST, GTF } from "../abi/index.ts";
import type { MappedPages } from "../device/device-type.ts";
import type { Domain } from "../domain/domain.ts";
import { FRAME_SIZE, type Frames, FrameType, type Mfn, OutOfFrames } from "../machine/frames.ts";
import type { Machine } from "../machine/machine.ts";
import { GrantError } from "./grant-error.ts";
import { Maptrack } from "./maptrack.ts";

/** Bytes of a grant_entry_v1, whose layout depends on the byte order only: flags u16, domid u16, frame u32. */
const ENTRY_SIZE = 8;
/** Entries in a frame. */
export const ENTRIES_PER_FRAME = FRAME_SIZE / ENTRY_SIZE;
/** Xen refuses a pin when one of its 8-bit counters has reached this. */
const PIN_LIMIT = 0x80;

/** How large the tables of a domain may grow; Xen's defaults. */
export interface GrantLimits {
  readonly grantFrames: number;
  readonly maptrackFrames: number;
}
export const defaultGrantLimits: GrantLimits = Object.freeze({ grantFrames: 64, maptrackFrames: 1024 });

/** A grant in use. */
export interface ActiveGrant {
  readonly domid: number;
  readonly mfn: Mfn;
  readonly gfn: number;
  hostReaders: number;
  hostWriters: number;
  deviceReaders: number;
  deviceWriters: number;
}

export class GrantTable {
  readonly machine: Machine;
  readonly domain: Domain;
  readonly limits: GrantLimits;
  /** Mappings that this domain has made of others' grants. */
  readonly maptrack: Maptrack;
  readonly #frames: Frames;
  readonly #table: Mfn[] = [];
  readonly #active = new Map<number, ActiveGrant>();
  readonly #little: boolean;
  #destroyed = false;

  /** Takes no frame yet: the first use of the table does. */
  constructor(machine: Machine, domain: Domain, limits: GrantLimits = defaultGrantLimits) {
    this.machine = machine;
    this.domain = domain;
    this.limits = limits;
    this.maptrack = new Maptrack(limits.maptrackFrames);
    this.#frames = machine.frames;
    this.#little = domain.abi.endian === "little";
  }

  /** Frames of the table; Xen's tables have one from the start. */
  get frameCount(): number {
    return Math.max(1, this.#table.length);
  }

  /** Frames taken from the machine for the table: they are the domain's, but no memory of it. */
  get ownFrames(): number {
    return this.#table.length;
  }

  /** Grant references that exist. */
  get entries(): number {
    return this.#table.length * ENTRIES_PER_FRAME;
  }

  /** Grows the table to `count` frames; false: above the limit, or no memory. */
  grow(count: number): boolean {
    if (this.#destroyed || this.domain.arch === null || count > this.limits.grantFrames) return false;
    const missing = Math.max(1, count) - this.#table.length;
    if (missing <= 0) return true;
    try {
      for (const mfn of this.#frames.allocate(this.domain.id, missing)) {
        this.#frames.getType(mfn, FrameType.writable);
        this.#table.push(mfn);
      }
    } catch (error) {
      if (error instanceof OutOfFrames) return false;
      throw error;
    }
    return true;
  }

  /** Frame `index` of the table, grown to hold it (XENMAPSPACE_grant_table); -1: above the limit, or no memory. */
  frameAt(index: number): Mfn {
    return this.grow(index + 1) ? (this.#table[index] ?? -1) : -1;
  }

  /** Is this a frame of the table? Such a frame cannot be given back by the guest. */
  isGrantFrame(mfn: Mfn): boolean {
    return this.#table.includes(mfn);
  }

  /** Machine address of a shared entry. */
  #entry(ref: number): number {
    return this.#table[Math.floor(ref / ENTRIES_PER_FRAME)]! * FRAME_SIZE + (ref % ENTRIES_PER_FRAME) * ENTRY_SIZE;
  }

  #writeFlags(ref: number, flags: number): void {
    const at = this.#entry(ref);
    this.#frames.view.setUint16(at, flags, this.#little);
    this.#frames.wrote(Math.floor(at / FRAME_SIZE), at % FRAME_SIZE, (at % FRAME_SIZE) + 2);
  }

  #clearFlags(ref: number, bits: number): void {
    if (this.#destroyed) return;
    const flags = this.#frames.view.getUint16(this.#entry(ref), this.#little);
    this.#writeFlags(ref, flags & ~bits);
  }

  /** The shared entry's permission for `domid`; marks it in use (_set_status_v1). */
  #setStatus(ref: number, domid: number, readonly: boolean, mapping: boolean): number {
    const at = this.#entry(ref);
    const flags = this.#frames.view.getUint16(at, this.#little);
    const granted = this.#frames.view.getUint16(at + 2, this.#little);
    const mask = mapping ? GTF.type_mask | GTF.sub_page : GTF.type_mask;
    if ((flags & mask) !== GTF.permit_access || granted !== domid) return GNTST.general_error;
    if (!readonly && (flags & GTF.readonly) !== 0) return GNTST.general_error;
    this.#writeFlags(ref, flags | GTF.reading | (readonly ? 0 : GTF.writing));
    return GNTST.okay;
  }

  /** The grant in use, if it is. */
  active(ref: number): ActiveGrant | undefined {
    return this.#active.get(ref);
  }

  /** Grants in use, for dumps and tests. */
  get activeCount(): number {
    return this.#active.size;
  }

  /**
   * Pins grant `ref` for domain `domid`, once for each of GNTMAP_host_map and GNTMAP_device_map in `flags`; without
   * GNTMAP_readonly for writing. Takes all references. Returns the active entry, or a status below 0.
   */
  pin(ref: number, domid: number, flags: number, mapping: boolean): ActiveGrant | number {
    if (ref >= this.entries) return GNTST.bad_gntref;
    if (this.domain.dying) return GNTST.general_error;
    const readonly = (flags & GNTMAP.readonly) !== 0;
    let grant = this.#active.get(ref);
    if (grant !== undefined && (grant.domid !== domid || saturated(grant))) return GNTST.general_error;
    const fresh = grant === undefined;
    if (grant === undefined || (!readonly && grant.hostWriters + grant.deviceWriters === 0)) {
      const status = this.#setStatus(ref, domid, readonly, mapping);
      if (status < 0) return status;
    }
    if (grant === undefined) {
      const gfn = this.#frames.view.getUint32(this.#entry(ref) + 4, this.#little);
      const mfn = this.domain.arch!.gfnToMfn(this.domain, gfn);
      if (!this.#frames.owns(this.domain.id, mfn)) {
        this.#clearFlags(ref, GTF.reading | GTF.writing);
        return GNTST.bad_page;
      }
      grant = { domid, mfn, gfn, hostReaders: 0, hostWriters: 0, deviceReaders: 0, deviceWriters: 0 };
      this.#active.set(ref, grant);
    }
    const kinds = [GNTMAP.host_map, GNTMAP.device_map].filter((kind) => (flags & kind) !== 0);
    for (const [done, kind] of kinds.entries()) {
      if (!this.#hold(grant.mfn, readonly)) {
        if (done > 0) this.#drop(grant, kinds[0]!, readonly);
        this.#settle(ref, grant, fresh || !readonly);
        return GNTST.general_error;
      }
      count(grant, kind, readonly, 1);
    }
    return grant;
  }

  #hold(mfn: Mfn, readonly: boolean): boolean {
    if (!this.#frames.getRef(mfn, this.domain.id)) return false;
    if (readonly || this.#frames.getType(mfn, FrameType.writable)) return true;
    this.#frames.putRef(mfn);
    return false;
  }

  #drop(grant: ActiveGrant, kind: number, readonly: boolean): void {
    count(grant, kind, readonly, -1);
    if (!readonly) this.#frames.putType(grant.mfn);
    this.#frames.putRef(grant.mfn);
  }

  /** After pins went: clears the in-use bits that no longer hold, and forgets an entry without pins. */
  #settle(ref: number, grant: ActiveGrant, wrote: boolean): void {
    const writers = grant.hostWriters + grant.deviceWriters;
    const none = writers + grant.hostReaders + grant.deviceReaders === 0;
    const clear = (wrote && writers === 0 ? GTF.writing : 0) | (none ? GTF.reading : 0);
    if (none) this.#active.delete(ref);
    if (clear !== 0) this.#clearFlags(ref, clear);
  }

  /** Gives back pins that `pin` took: once for each of host_map and device_map in `flags`. */
  unpin(ref: number, flags: number): void {
    const grant = this.#active.get(ref);
    if (grant === undefined) throw new Error(`grant ${ref} of ${this.domain} is not in use`);
    const readonly = (flags & GNTMAP.readonly) !== 0;
    // The frame may be freed, and a dying domain with it: the entry is settled before the last reference goes.
    const kinds = [GNTMAP.host_map, GNTMAP.device_map].filter((kind) => (flags & kind) !== 0);
    for (const kind of kinds) count(grant, kind, readonly, -1);
    this.#settle(ref, grant, !readonly);
    for (const _kind of kinds) {
      if (!readonly) this.#frames.putType(grant.mfn);
      this.#frames.putRef(grant.mfn);
    }
  }

  /** GNTTABOP_swap_grant_ref: exchanges two entries that nobody uses. Returns a status. */
  swap(a: number, b: number): number {
    if (a >= this.entries || b >= this.entries) return GNTST.bad_gntref;
    if (a === b) return GNTST.okay;
    if (this.#active.has(a) || this.#active.has(b)) return GNTST.eagain;
    const { bytes } = this.#frames;
    const [atA, atB] = [this.#entry(a), this.#entry(b)];
    const kept = bytes.slice(atA, atA + ENTRY_SIZE);
    bytes.copyWithin(atA, atB, atB + ENTRY_SIZE);
    bytes.set(kept, atB);
    for (const at of [atA, atB])
      this.#frames.wrote(Math.floor(at / FRAME_SIZE), at % FRAME_SIZE, (at % FRAME_SIZE) + ENTRY_SIZE);
    return GNTST.okay;
  }

  /** Begins a transfer to this domain's entry `ref` from `domid` (gnttab_prepare_for_transfer). */
  prepareTransfer(ref: number, domid: number): boolean {
    if (ref >= this.entries) return false;
    const at = this.#entry(ref);
    const flags = this.#frames.view.getUint16(at, this.#little);
    if (flags !== GTF.accept_transfer || this.#frames.view.getUint16(at + 2, this.#little) !== domid) return false;
    this.#writeFlags(ref, flags | GTF.transfer_committed);
    return true;
  }

  /** The gfn at which the domain awaits the frame of a committed transfer. */
  transferGfn(ref: number): number {
    return this.#frames.view.getUint32(this.#entry(ref) + 4, this.#little);
  }

  /** Ends a transfer; `frame` is what the entry says afterwards (the mfn, for a PV guest). */
  completeTransfer(ref: number, frame: number): void {
    const at = this.#entry(ref);
    this.#frames.view.setUint32(at + 4, frame, this.#little);
    this.#writeFlags(ref, this.#frames.view.getUint16(at, this.#little) | GTF.transfer_completed);
  }

  /** Writes an entry for domain 0, as the domain builder does for the console (0) and XenStore (1). Throws GrantError if there is no memory for the table. */
  grantToBackend(ref: number, gfn: number): void {
    if (!this.grow(Math.floor(ref / ENTRIES_PER_FRAME) + 1))
      throw new GrantError(GNTST.no_space, `Granting frame ${gfn} of ${this.domain} as ${ref}`);
    const at = this.#entry(ref);
    this.#frames.view.setUint16(at + 2, 0, this.#little);
    this.#frames.view.setUint32(at + 4, gfn, this.#little);
    this.#writeFlags(ref, GTF.permit_access);
  }

  /** Maps grants for a backend in domain 0, all or none. Throws GrantError. */
  mapForBackend(refs: readonly number[], access: "ro" | "rw"): MappedPages {
    const flags = GNTMAP.host_map | (access === "ro" ? GNTMAP.readonly : 0);
    const mapper = this.machine.domains.get(0);
    const pinned: number[] = [];
    const mfns: Mfn[] = [];
    const unmap = (): void => {
      for (const ref of pinned.splice(0)) this.unpin(ref, flags);
    };
    for (const ref of refs) {
      const grant = Number.isInteger(ref) && ref >= 0 ? this.pin(ref, 0, flags, true) : GNTST.bad_gntref;
      const status = typeof grant === "number" ? grant : GNTST.okay;
      if (mapper !== undefined) traceMap(this.machine, mapper, this.domain, ref, status);
      if (typeof grant === "number") {
        unmap();
        throw new GrantError(status, `Mapping grant ${ref} of ${this.domain}`);
      }
      pinned.push(ref);
      mfns.push(grant.mfn);
    }
    return {
      pages: mfns.map((mfn) => this.#frames.page(mfn)),
      wrote: (page, from, to) => this.#frames.wrote(mfns[page]!, from, to),
      unmap,
    };
  }

  /** The domain dies: gives back everything that it has mapped of others (gnttab_release_mappings). Its page tables are gone already. */
  releaseMappings(): void {
    for (const handle of this.maptrack.handles()) {
      const { granter, ref, flags } = this.maptrack.get(handle)!;
      this.maptrack.remove(handle);
      this.machine.domains.get(granter)?.grants.unpin(ref, flags);
    }
  }

  /**
   * The domain dies: gives back what it has mapped of others, and the table's frames. Grants of its own that others have mapped
   * stay pinned until they unmap.
   */
  destroy(): void {
    if (this.#destroyed) return;
    this.releaseMappings();
    this.#destroyed = true;
    for (const mfn of this.#table.splice(0)) {
      this.#frames.putType(mfn);
      this.#frames.dropAllocation(mfn);
    }
  }
}

function saturated(grant: ActiveGrant): boolean {
  const { hostReaders, hostWriters, deviceReaders, deviceWriters } = grant;
  return Math.max(hostReaders, hostWriters, deviceReaders, deviceWriters) >= PIN_LIMIT;
}

function count(grant: ActiveGrant, kind: number, readonly: boolean, by: 1 | -1): void {
  if (kind === GNTMAP.host_map) {
    if (readonly) grant.hostReaders += by;
    else grant.hostWriters += by;
  } else if (readonly) grant.deviceReaders += by;
  else grant.deviceWriters += by;
}

/** Tells the trace of a mapping. */
export function traceMap(machine: Machine, mapper: Domain, granter: Domain, ref: number, status: number): void {
  const { grantMap } = machine.hooks;
  if (grantMap.isUsed()) grantMap.call(mapper, granter, ref, status, machine.now);
}
