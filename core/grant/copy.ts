/**
 * GNTTABOP_copy: copies bytes within a frame, either end named by a grant or by a frame of the caller's own (Xen: gnttab_copy).
 *
 * Invariants: both frames are held for the time of the copy, the destination as writable, and given back whatever happens; a copy
 * never leaves a frame.
 */
import { DOMID, GNTMAP, GNTST } from "../abi/index.ts";
import { checkAccess, lookUpDomain } from "../domain/access.ts";
import type { Domain } from "../domain/domain.ts";
import { FRAME_SIZE, FrameType, type Mfn } from "../machine/frames.ts";
import type { Machine } from "../machine/machine.ts";

/** One end of a copy. */
export interface CopyEnd {
  /** Grant reference, or the caller's own gfn. */
  readonly frame: number;
  readonly isGrant: boolean;
  readonly domid: number;
  readonly offset: number;
}

/** A frame that is held for the copy, or a status. */
type Held = { readonly mfn: Mfn; release(): void } | number;

function holdOwn(machine: Machine, domain: Domain, gfn: number, write: boolean): Held {
  const { frames } = machine;
  const mfn = gfn <= 0xffffffff ? domain.arch!.gfnToMfn(domain, gfn) : -1;
  if (mfn < 0 || !frames.getRef(mfn, domain.id)) return GNTST.bad_page;
  if (write && !frames.getType(mfn, FrameType.writable)) {
    frames.putRef(mfn);
    return GNTST.general_error;
  }
  return {
    mfn,
    release: () => {
      if (write) frames.putType(mfn);
      frames.putRef(mfn);
    },
  };
}

function holdGrant(caller: Domain, granter: Domain, ref: number, write: boolean): Held {
  const flags = GNTMAP.host_map | (write ? 0 : GNTMAP.readonly);
  const grant = granter.grants.pin(ref, caller.id, flags, false);
  if (typeof grant === "number") return grant;
  return { mfn: grant.mfn, release: () => granter.grants.unpin(ref, flags) };
}

/** The domain of one end, or a status: a frame without a grant must be the caller's own. */
function domainOf(machine: Machine, caller: Domain, end: CopyEnd): Domain | number {
  if (!end.isGrant && end.domid !== DOMID.SELF) return GNTST.permission_denied;
  return lookUpDomain(machine, caller, end.domid) ?? GNTST.bad_domain;
}

/** Copies `length` bytes. Returns a status. */
export function copyGrant(machine: Machine, caller: Domain, source: CopyEnd, dest: CopyEnd, length: number): number {
  const { frames } = machine;
  const from = domainOf(machine, caller, source);
  if (typeof from === "number") return from;
  const to = domainOf(machine, caller, dest);
  if (typeof to === "number") return to;
  if (checkAccess(machine, from, "grant_copy", to, "hook") < 0) return GNTST.permission_denied;
  const hold = (end: CopyEnd, domain: Domain, write: boolean): Held =>
    end.isGrant ? holdGrant(caller, domain, end.frame, write) : holdOwn(machine, domain, end.frame, write);
  const read = hold(source, from, false);
  if (typeof read === "number") return read;
  const written = hold(dest, to, true);
  if (typeof written === "number") {
    read.release();
    return written;
  }
  let status: number = GNTST.bad_copy_arg;
  if (source.offset + length <= FRAME_SIZE && dest.offset + length <= FRAME_SIZE) {
    const start = read.mfn * FRAME_SIZE + source.offset;
    frames.bytes.copyWithin(written.mfn * FRAME_SIZE + dest.offset, start, start + length);
    if (length > 0) frames.wrote(written.mfn, dest.offset, dest.offset + length);
    status = GNTST.okay;
  }
  written.release();
  read.release();
  return status;
}
