/**
 * Mapping grants into a guest: map_grant_ref, unmap_grant_ref, unmap_and_replace (Xen: common/grant_table.c, map_grant_ref,
 * unmap_common). There is no I/O MMU: a device mapping pins the frame and tells its machine address.
 *
 * Invariants: an operation that fails leaves nothing behind; what the arch installs is covered by a pin from before to after.
 */
import { GNTMAP, GNTST } from "../abi/index.ts";
import { checkAccess, lookUpDomain } from "../domain/access.ts";
import type { Vcpu } from "../domain/vcpu.ts";
import { FRAME_SIZE } from "../machine/frames.ts";
import type { Machine } from "../machine/machine.ts";
import { traceMap } from "./grant-table.ts";

const MAPPINGS = GNTMAP.host_map | GNTMAP.device_map;
const KEPT = MAPPINGS | GNTMAP.readonly | GNTMAP.application_map | GNTMAP.contains_pte | GNTMAP.guest_avail_mask;

/** A guest virtual address, or with GNTMAP_contains_pte a machine address. */
export interface Address {
  readonly lo: number;
  readonly hi: number;
}

/** What a mapping gives: a status, and with GNTST_okay its handle and frame. */
export interface MapResult {
  readonly status: number;
  readonly handle: number;
  readonly mfn: number;
}

function failed(status: number): MapResult {
  return { status, handle: 0xffffffff, mfn: 0 };
}

/** Maps grant `ref` of domain `domid` for the vCPU's domain. */
export function mapGrant(
  machine: Machine,
  vcpu: Vcpu,
  domid: number,
  ref: number,
  flags: number,
  host: Address,
): MapResult {
  const { domain } = vcpu;
  if ((flags & MAPPINGS) === 0) return failed(GNTST.bad_gntref);
  const granter = lookUpDomain(machine, domain, domid);
  if (granter === undefined) return failed(GNTST.bad_domain);
  if (checkAccess(machine, domain, "grant_mapref", granter, "hook") < 0) return failed(GNTST.permission_denied);
  if (domain.grants.maptrack.full) return failed(GNTST.no_space);
  const kept = (flags & KEPT) >>> 0;
  const grant = granter.grants.pin(ref, domain.id, kept, true);
  let status = typeof grant === "number" ? grant : GNTST.okay;
  if (typeof grant !== "number" && (kept & GNTMAP.host_map) !== 0) {
    status = domain.arch!.mapGrant(vcpu, host.lo, host.hi, grant.mfn, kept);
    if (status < 0) granter.grants.unpin(ref, kept);
  }
  traceMap(machine, domain, granter, ref, status);
  if (typeof grant === "number" || status < 0) return failed(status);
  const handle = domain.grants.maptrack.add({ granter: granter.id, ref, flags: kept });
  return { status: GNTST.okay, handle, mfn: grant.mfn };
}

/**
 * Removes the mappings of a handle that are named: the host mapping by its address, the device mapping by its machine address;
 * an address of 0 names none. With a `replacement` the page-table entry there moves to the host mapping's place. Returns a status.
 */
export function unmapGrant(
  machine: Machine,
  vcpu: Vcpu,
  handle: number,
  host: Address,
  device: Address,
  replacement: Address,
): number {
  const { domain } = vcpu;
  const entry = domain.grants.maptrack.get(handle);
  if (entry === null) return GNTST.bad_handle;
  const granter = machine.domains.get(entry.granter);
  const grant = granter?.grants.active(entry.ref);
  if (granter === undefined || grant === undefined) return GNTST.bad_domain;
  if (checkAccess(machine, domain, "grant_unmapref", granter, "hook") < 0) return GNTST.permission_denied;
  const { mfn } = grant;
  const readonly = entry.flags & GNTMAP.readonly;
  let gone = 0;
  if ((device.lo !== 0 || device.hi !== 0) && (entry.flags & GNTMAP.device_map) !== 0) {
    if (device.hi * 0x1_0000_0000 + device.lo !== mfn * FRAME_SIZE) return GNTST.bad_dev_addr;
    gone |= GNTMAP.device_map;
  }
  if ((host.lo !== 0 || host.hi !== 0) && (entry.flags & GNTMAP.host_map) !== 0) {
    const { lo, hi } = replacement;
    const status = domain.arch!.unmapGrant(vcpu, host.lo, host.hi, mfn, entry.flags, lo, hi);
    if (status < 0) return status;
    gone |= GNTMAP.host_map;
  }
  if (gone === 0) return GNTST.okay;
  entry.flags = (entry.flags & ~gone) >>> 0;
  if ((entry.flags & MAPPINGS) === 0) domain.grants.maptrack.remove(handle);
  granter.grants.unpin(entry.ref, gone | readonly);
  return GNTST.okay;
}
