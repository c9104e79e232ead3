/**
 * GNTTABOP_transfer: gives a frame away to a domain that granted a place for it (Xen: gnttab_transfer).
 *
 * Unlike Xen, the receiver is checked before the frame leaves its owner: a transfer that is refused takes nothing.
 * Invariant: only a frame that nothing but its allocation holds is given away.
 */
import { GNTST } from "../abi/index.ts";
import { checkAccess } from "../domain/access.ts";
import type { Domain } from "../domain/domain.ts";
import type { Machine } from "../machine/machine.ts";

/** Gives the caller's frame at `gfn` to domain `domid` by its grant `ref`. Returns a status. */
export function transferGrant(machine: Machine, caller: Domain, gfn: number, domid: number, ref: number): number {
  const { frames } = machine;
  const arch = caller.arch!;
  const mfn = gfn <= 0xffffffff ? arch.gfnToMfn(caller, gfn) : -1;
  const spare = frames.allocated[mfn] === 1 && frames.refs[mfn] === 1 && frames.typeCount[mfn] === 0;
  if (!frames.owns(caller.id, mfn) || !spare) return GNTST.bad_page;
  const receiver = machine.domains.get(domid);
  if (receiver === undefined || receiver.arch === null) return GNTST.bad_domain;
  if (checkAccess(machine, caller, "grant_transfer", receiver, "hook") < 0) return GNTST.permission_denied;
  const memory = frames.ownedBy(receiver.id) - receiver.grants.ownFrames - (receiver.sharedInfo < 0 ? 0 : 1);
  if (receiver.dying || memory >= receiver.maxFrames) return GNTST.general_error;
  if (receiver === caller || !receiver.grants.prepareTransfer(ref, caller.id)) return GNTST.general_error;
  if (!arch.releaseFrame(caller, gfn, mfn)) return GNTST.bad_page;
  frames.setOwner(mfn, receiver.id);
  const place = receiver.grants.transferGfn(ref);
  frames.setGfn(mfn, place);
  receiver.arch.acquireFrame(receiver, place, mfn);
  // A guest that knows machine frames (PV: its gfns are mfns) finds its new frame in the entry.
  const translated = receiver.arch.gfnToMfn(receiver, mfn) !== mfn;
  receiver.grants.completeTransfer(ref, translated ? place : mfn);
  return GNTST.okay;
}
