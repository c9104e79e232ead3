/**
 * Memory_op (12): the commands that change or ask for reservations and the physmap (Xen: common/memory.c). Those of one
 * architecture (memory_map, machphys_mapping, ...) are added by its plugin: `table.group(__HYPERVISOR.memory_op).add(...)`.
 *
 * Invariants: a frame is given back once, by the reference that its allocation holds, and is freed when it is no longer mapped,
 * granted, registered or a page table; the shared info page and grant frames are not given back; as in Xen, a failing extent ends the
 * call, whose result is the number of extents done; a preempted call carries that number in the command's upper bits.
 */
import {
  __HYPERVISOR,
  ERRNO,
  XENFEAT,
  XENMAPSPACE,
  XENMEM,
  xen_add_to_physmap,
  xen_add_to_physmap_batch,
  xen_memory_domain,
  xen_memory_reservation,
  xen_remove_from_physmap,
} from "../abi/index.ts";
import { checkAccess, lookUpDomain } from "../domain/access.ts";
import type { Domain } from "../domain/domain.ts";
import { INVALID_GFN, type Mfn } from "../machine/frames.ts";
import type { Machine } from "../machine/machine.ts";
import { type Handle, isNull, offsetHandle, readWord, writeWord } from "./guest-list.ts";
import { addMemoryExchange } from "./memory-exchange.ts";
import { allocateExtent, isMemory, MAX_ORDER, memoryFrames } from "./reservation.ts";
import type { HypercallCall, HypercallTable } from "./table.ts";

/** The command's low bits; the extents done are above (MEMOP_EXTENT_SHIFT, MEMOP_CMD_MASK). */
const EXTENT_SHIFT = 6;
const COMMAND_MASK = (1 << EXTENT_SHIFT) - 1;
/** Most extents of a call: what is left of the command's word. */
const MAX_EXTENTS = 2 ** (32 - EXTENT_SHIFT);
/** Instructions an extent. */
const EXTENT_COST = 400;

/** What increase, decrease and populate have in common. */
interface Reservation {
  readonly domain: Domain;
  readonly list: Handle;
  readonly order: number;
}

/** Extents done before this call was preempted. */
function startExtent(call: HypercallCall): number {
  return call.lo(0) >>> EXTENT_SHIFT;
}

/** Ends a preempted call: `done` elements are done. */
function continueAt(call: HypercallCall, done: number): number {
  call.setArgument(0, ((call.lo(0) & COMMAND_MASK) | (done << EXTENT_SHIFT)) >>> 0);
  return call.continued();
}

/** Runs `extent` for each extent that is left; the result of the call. */
function eachExtent(
  machine: Machine,
  call: HypercallCall,
  extent: (index: number, reservation: Reservation) => boolean,
): number {
  const layout = xen_memory_reservation.at(call.abi);
  const start = startExtent(call);
  const view = call.readArg(1, layout.size);
  if (view === null) return start;
  const count = layout.getNumber(view, 0, "nr_extents");
  const order = layout.get(view, 0, "extent_order");
  const list = { lo: layout.getLo(view, 0, "extent_start"), hi: layout.getHi(view, 0, "extent_start") };
  const domain = lookUpDomain(machine, call.domain, layout.get(view, 0, "domid"));
  if (count >= MAX_EXTENTS || order > MAX_ORDER || domain === undefined || domain.dying) return start;
  if (checkAccess(machine, call.domain, "memory_adjust_reservation", domain, "target") < 0) return start;
  for (let index = start; index < count; index++) {
    if (index > start && call.preempted()) return continueAt(call, index);
    call.charge(EXTENT_COST << order);
    if (!extent(index, { domain, list, order })) return index;
  }
  return Math.max(start, count);
}

/** Takes one frame out of its domain; it is freed when nothing holds it any more. */
function giveBack(machine: Machine, domain: Domain, gfn: number): boolean {
  const mfn = gfn <= 0xffffffff ? domain.arch!.gfnToMfn(domain, gfn) : -1;
  if (!isMemory(machine, domain, mfn) || !domain.arch!.releaseFrame(domain, gfn, mfn)) return false;
  return machine.frames.dropAllocation(mfn);
}

/** Do its interfaces name frames by its own map? Then no mfn is told (Xen: paging_mode_translate). */
function isTranslated(domain: Domain): boolean {
  return (((domain.arch?.features?.(domain, 0) ?? 0) >>> XENFEAT.auto_translated_physmap) & 1) !== 0;
}

function addReservations(group: ReturnType<HypercallTable["group"]>, machine: Machine): void {
  group.add(XENMEM.increase_reservation, "increase_reservation", (call) =>
    eachExtent(machine, call, (index, { domain, list, order }) => {
      const first = allocateExtent(machine, domain, order);
      if (first < 0) return false;
      for (let i = 0; i < 2 ** order; i++) domain.arch!.acquireFrame(domain, INVALID_GFN, first + i);
      return isNull(list) || isTranslated(domain) || writeWord(call, list, index, first);
    }),
  );
  group.add(XENMEM.decrease_reservation, "decrease_reservation", (call) =>
    eachExtent(machine, call, (index, { domain, list, order }) => {
      const first = readWord(call, list, index);
      if (first === null) return false;
      for (let i = 0; i < 2 ** order; i++) if (!giveBack(machine, domain, first + i)) return false;
      return true;
    }),
  );
  group.add(XENMEM.populate_physmap, "populate_physmap", (call) =>
    eachExtent(machine, call, (index, { domain, list, order }) => {
      const gfn = readWord(call, list, index);
      if (gfn === null || gfn + 2 ** order > INVALID_GFN) return false;
      const first = allocateExtent(machine, domain, order);
      if (first < 0) return false;
      for (let i = 0; i < 2 ** order; i++) {
        machine.frames.setGfn(first + i, gfn + i);
        domain.arch!.acquireFrame(domain, gfn + i, first + i);
      }
      return isTranslated(domain) || writeWord(call, list, index, first);
    }),
  );
}

/** The domain that a structure with a domid names, or a negative errno. */
function namedDomain(machine: Machine, call: HypercallCall, domid: number, action: string): Domain | number {
  const domain = lookUpDomain(machine, call.domain, domid);
  if (domain === undefined) return -ERRNO.ESRCH;
  const refused = checkAccess(machine, call.domain, action, domain, "target");
  return refused < 0 ? refused : domain;
}

function addQueries(group: ReturnType<HypercallTable["group"]>, machine: Machine): void {
  const query = (answer: (domain: Domain) => number) => (call: HypercallCall) => {
    const layout = xen_memory_domain.at(call.abi);
    const view = call.readArg(1, layout.size);
    if (view === null) return -ERRNO.EFAULT;
    const domain = namedDomain(machine, call, layout.get(view, 0, "domid"), "memory_stat_reservation");
    return typeof domain === "number" ? domain : answer(domain);
  };
  group.add(XENMEM.maximum_ram_page, "maximum_ram_page", () => machine.frames.count);
  group.add(
    XENMEM.current_reservation,
    "current_reservation",
    query((domain) => memoryFrames(machine, domain)),
  );
  group.add(
    XENMEM.maximum_reservation,
    "maximum_reservation",
    query((domain) => domain.maxFrames),
  );
  group.add(
    XENMEM.maximum_gpfn,
    "maximum_gpfn",
    query((domain) => domain.arch?.maximumGfn?.(domain) ?? Math.min(domain.shared?.maxPfn() ?? 0, 0xffffffff) - 1),
  );
}

/** The frame that a source space names; -1: none. */
function sourceFrame(machine: Machine, domain: Domain, space: number, index: number): Mfn {
  switch (space) {
    case XENMAPSPACE.shared_info:
      return index === 0 ? domain.sharedInfo : -1;
    case XENMAPSPACE.grant_table:
      return index < domain.grants.limits.grantFrames ? domain.grants.frameAt(index) : -1;
    case XENMAPSPACE.gmfn:
    case XENMAPSPACE.gmfn_range: {
      const mfn = index <= 0xffffffff ? domain.arch!.gfnToMfn(domain, index) : -1;
      return machine.frames.owns(domain.id, mfn) ? mfn : -1;
    }
    default:
      return -1;
  }
}

/** One page of add_to_physmap. A gmfn moves: it leaves its old place. */
function addOne(machine: Machine, domain: Domain, space: number, index: number, gfn: number): number {
  if (gfn >= INVALID_GFN) return -ERRNO.EINVAL;
  if (space > XENMAPSPACE.gmfn_range) return -ERRNO.ENOSYS;
  const mfn = sourceFrame(machine, domain, space, index);
  if (mfn < 0) return -ERRNO.EINVAL;
  if (space === XENMAPSPACE.gmfn || space === XENMAPSPACE.gmfn_range) {
    const removed = index === gfn ? 0 : domain.arch!.setPhysmap(domain, index, -1);
    if (removed < 0) return removed;
  }
  return domain.arch!.setPhysmap(domain, gfn, mfn);
}

function addPhysmap(group: ReturnType<HypercallTable["group"]>, machine: Machine): void {
  group.add(XENMEM.add_to_physmap, "add_to_physmap", (call) => {
    const layout = xen_add_to_physmap.at(call.abi);
    const view = call.readArg(1, layout.size);
    if (view === null) return -ERRNO.EFAULT;
    const space = layout.get(view, 0, "space");
    const [idx, gpfn] = [layout.getNumber(view, 0, "idx"), layout.getNumber(view, 0, "gpfn")];
    const size = space === XENMAPSPACE.gmfn_range ? layout.get(view, 0, "size") : 1;
    if (space > XENMAPSPACE.gmfn_range) return -ERRNO.ENOSYS;
    const domain = namedDomain(machine, call, layout.get(view, 0, "domid"), "add_to_physmap");
    if (typeof domain === "number") return domain;
    const start = startExtent(call);
    for (let i = start; i < size; i++) {
      if (i > start && call.preempted()) return continueAt(call, i);
      call.charge(EXTENT_COST);
      const result = addOne(machine, domain, space, idx + i, gpfn + i);
      if (result < 0) return result;
    }
    return 0;
  });
  group.add(XENMEM.add_to_physmap_batch, "add_to_physmap_batch", (call) => {
    const layout = xen_add_to_physmap_batch.at(call.abi);
    const view = call.readArg(1, layout.size);
    if (view === null) return -ERRNO.EFAULT;
    const space = layout.get(view, 0, "space");
    const size = layout.get(view, 0, "size");
    const handle = (name: "idxs" | "gpfns" | "errs"): Handle => ({
      lo: layout.getLo(view, 0, name),
      hi: layout.getHi(view, 0, name),
    });
    const [idxs, gpfns, errs] = [handle("idxs"), handle("gpfns"), handle("errs")];
    if (space === XENMAPSPACE.gmfn_range) return -ERRNO.EINVAL;
    if (space > XENMAPSPACE.gmfn) return -ERRNO.EPERM;
    if (layout.get(view, 0, "u.res0") !== 0) return -ERRNO.EINVAL;
    const domain = namedDomain(machine, call, layout.get(view, 0, "domid"), "add_to_physmap");
    if (typeof domain === "number") return domain;
    const status = new DataView(new ArrayBuffer(4));
    const start = startExtent(call);
    for (let i = start; i < size; i++) {
      if (i > start && call.preempted()) return continueAt(call, i);
      call.charge(EXTENT_COST);
      const [idx, gpfn] = [readWord(call, idxs, i), readWord(call, gpfns, i)];
      if (idx === null || gpfn === null) return -ERRNO.EFAULT;
      status.setInt32(0, addOne(machine, domain, space, idx, gpfn), call.abi.endian === "little");
      const at = offsetHandle(call, errs, 4 * i);
      if (!call.write(at.lo, at.hi, status, 4)) return -ERRNO.EFAULT;
    }
    return 0;
  });
  group.add(XENMEM.remove_from_physmap, "remove_from_physmap", (call) => {
    const layout = xen_remove_from_physmap.at(call.abi);
    const view = call.readArg(1, layout.size);
    if (view === null) return -ERRNO.EFAULT;
    const gfn = layout.getNumber(view, 0, "gpfn");
    const domain = namedDomain(machine, call, layout.get(view, 0, "domid"), "remove_from_physmap");
    if (typeof domain === "number") return domain;
    const mfn = gfn < INVALID_GFN ? domain.arch!.gfnToMfn(domain, gfn) : -1;
    return mfn < 0 ? -ERRNO.ENOENT : domain.arch!.setPhysmap(domain, gfn, -1);
  });
}

export function addMemoryOp(table: HypercallTable, machine: Machine): void {
  const group = table.addGroup(__HYPERVISOR.memory_op, "memory_op", (call) => call.lo(0) & COMMAND_MASK, 400);
  addReservations(group, machine);
  addMemoryExchange(group, machine);
  addQueries(group, machine);
  addPhysmap(group, machine);
  for (const name of ["machine_memory_map", "claim_pages", "set_pod_target", "get_pod_target"] as const)
    group.add(XENMEM[name], name, () => -ERRNO.EPERM);
  group.add(XENMEM.get_vnumainfo, "get_vnumainfo", () => -ERRNO.EOPNOTSUPP);
  group.add(XENMEM.acquire_resource, "acquire_resource", () => -ERRNO.EPERM);
}
