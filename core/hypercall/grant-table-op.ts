/**
 * Grant_table_op (20): arguments from and to guest memory (Xen: common/grant_table.c, do_grant_table_op).
 *
 * Each command takes `count` structures; a failing structure gets its status and the next is done. A preempted batch is continued
 * at the first structure that is left.
 */
import {
  __HYPERVISOR,
  ERRNO,
  GNTCOPY,
  GNTST,
  GNTTAB_CACHE,
  GNTTABOP,
  gnttab_cache_flush,
  gnttab_copy,
  gnttab_get_status_frames,
  gnttab_get_version,
  gnttab_map_grant_ref,
  gnttab_query_size,
  gnttab_set_version,
  gnttab_setup_table,
  gnttab_swap_grant_ref,
  gnttab_transfer,
  gnttab_unmap_and_replace,
  gnttab_unmap_grant_ref,
} from "../abi/index.ts";
import { checkAccess, lookUpDomain } from "../domain/access.ts";
import type { Domain } from "../domain/domain.ts";
import { copyGrant } from "../grant/copy.ts";
import { mapGrant, unmapGrant } from "../grant/map.ts";
import { transferGrant } from "../grant/transfer.ts";
import { FRAME_SIZE } from "../machine/frames.ts";
import type { Machine } from "../machine/machine.ts";
import { offsetHandle, writeWord } from "./guest-list.ts";
import type { HypercallCall, HypercallTable, OperationGroup } from "./table.ts";

/** Instructions for each structure of a batch. */
const ELEMENT_COST = 600;
const NOWHERE = Object.freeze({ lo: 0, hi: 0 });

/** Runs `element` on each structure of `size` bytes: it fills in the results; a negative errno ends the call. */
function batch(
  call: HypercallCall,
  size: number,
  out: boolean,
  element: (view: DataView) => number,
  cost = ELEMENT_COST,
): number {
  const count = call.int(2);
  if (count < 0) return -ERRNO.EINVAL;
  for (let i = 0; i < count; i++) {
    if (i > 0 && call.preempted()) {
      const rest = offsetHandle(call, { lo: call.lo(1), hi: call.hi(1) }, i * size);
      call.setArgument(1, rest.lo, rest.hi);
      call.setArgument(2, count - i);
      return call.continued();
    }
    const scratch = call.readArg(1, size, i * size);
    if (scratch === null) return -ERRNO.EFAULT;
    call.charge(cost);
    // A copy of the structure: what `element` does may read more guest memory.
    const view = new DataView(scratch.buffer.slice(scratch.byteOffset, scratch.byteOffset + size));
    const result = element(view);
    if (result < 0) return result;
    if (out && !call.writeArg(1, view, size, i * size)) return -ERRNO.EFAULT;
  }
  return 0;
}

/** Like batch, for commands that take one structure. */
function single(call: HypercallCall, size: number, element: (view: DataView) => number): number {
  return call.int(2) === 1 ? batch(call, size, true, element) : -ERRNO.EINVAL;
}

function addMapping(group: OperationGroup, machine: Machine): void {
  group.add(GNTTABOP.map_grant_ref, "map_grant_ref", (call) => {
    const layout = gnttab_map_grant_ref.at(call.abi);
    return batch(call, layout.size, true, (view) => {
      const host = { lo: layout.getLo(view, 0, "host_addr"), hi: layout.getHi(view, 0, "host_addr") };
      const [domid, ref] = [layout.get(view, 0, "dom"), layout.get(view, 0, "ref")];
      const result = mapGrant(machine, call.vcpu, domid, ref, layout.get(view, 0, "flags"), host);
      layout.set(view, 0, "status", result.status);
      if (result.status === GNTST.okay) {
        layout.set(view, 0, "handle", result.handle);
        layout.setNumber(view, 0, "dev_bus_addr", result.mfn * FRAME_SIZE);
      }
      return 0;
    });
  });
  group.add(GNTTABOP.unmap_grant_ref, "unmap_grant_ref", (call) => {
    const layout = gnttab_unmap_grant_ref.at(call.abi);
    return batch(call, layout.size, true, (view) => {
      const host = { lo: layout.getLo(view, 0, "host_addr"), hi: layout.getHi(view, 0, "host_addr") };
      const device = { lo: layout.getLo(view, 0, "dev_bus_addr"), hi: layout.getHi(view, 0, "dev_bus_addr") };
      const handle = layout.get(view, 0, "handle");
      layout.set(view, 0, "status", unmapGrant(machine, call.vcpu, handle, host, device, NOWHERE));
      return 0;
    });
  });
  group.add(GNTTABOP.unmap_and_replace, "unmap_and_replace", (call) => {
    const layout = gnttab_unmap_and_replace.at(call.abi);
    return batch(call, layout.size, true, (view) => {
      const host = { lo: layout.getLo(view, 0, "host_addr"), hi: layout.getHi(view, 0, "host_addr") };
      const place = { lo: layout.getLo(view, 0, "new_addr"), hi: layout.getHi(view, 0, "new_addr") };
      const handle = layout.get(view, 0, "handle");
      layout.set(view, 0, "status", unmapGrant(machine, call.vcpu, handle, host, NOWHERE, place));
      return 0;
    });
  });
}

function addMoving(group: OperationGroup, machine: Machine): void {
  group.add(GNTTABOP.copy, "copy", (call) => {
    const layout = gnttab_copy.at(call.abi);
    return batch(call, layout.size, true, (view) => {
      const flags = layout.get(view, 0, "flags");
      const length = layout.get(view, 0, "len");
      const end = (name: "source" | "dest", isGrant: boolean) => ({
        frame: isGrant ? layout.get(view, 0, `${name}.u.ref`) : layout.getNumber(view, 0, `${name}.u.gmfn`),
        isGrant,
        domid: layout.get(view, 0, `${name}.domid`),
        offset: layout.get(view, 0, `${name}.offset`),
      });
      const source = end("source", (flags & GNTCOPY.source_gref) !== 0);
      const dest = end("dest", (flags & GNTCOPY.dest_gref) !== 0);
      call.charge(length >>> 3);
      layout.set(view, 0, "status", copyGrant(machine, call.domain, source, dest, length));
      return 0;
    });
  });
  group.add(GNTTABOP.transfer, "transfer", (call) => {
    const layout = gnttab_transfer.at(call.abi);
    return batch(call, layout.size, true, (view) => {
      const gfn = layout.getNumber(view, 0, "mfn");
      const [domid, ref] = [layout.get(view, 0, "domid"), layout.get(view, 0, "ref")];
      layout.set(view, 0, "status", transferGrant(machine, call.domain, gfn, domid, ref));
      return 0;
    });
  });
  group.add(GNTTABOP.swap_grant_ref, "swap_grant_ref", (call) => {
    const layout = gnttab_swap_grant_ref.at(call.abi);
    return batch(call, layout.size, true, (view) => {
      const [a, b] = [layout.get(view, 0, "ref_a"), layout.get(view, 0, "ref_b")];
      layout.set(view, 0, "status", call.domain.grants.swap(a, b));
      return 0;
    });
  });
  group.add(GNTTABOP.cache_flush, "cache_flush", (call) => {
    const layout = gnttab_cache_flush.at(call.abi);
    return batch(call, layout.size, false, (view) => {
      const op = layout.get(view, 0, "op");
      const [offset, length] = [layout.get(view, 0, "offset"), layout.get(view, 0, "length")];
      if (op & ~(GNTTAB_CACHE.CLEAN | GNTTAB_CACHE.INVAL) || (op & GNTTAB_CACHE.INVAL) !== 0) return -ERRNO.EOPNOTSUPP;
      if (offset + length > FRAME_SIZE) return -ERRNO.EINVAL;
      if (length === 0 || op === 0) return 0;
      // Caches are coherent: there is nothing to clean, but the frame must be one that the caller may reach.
      const mfn = Math.floor(layout.getNumber(view, 0, "a.dev_bus_addr") / FRAME_SIZE);
      if (!machine.frames.valid(mfn)) return -ERRNO.EINVAL;
      return machine.frames.owns(call.domain.id, mfn) || maps(machine, call, mfn) ? 0 : -ERRNO.EPERM;
    });
  });
}

/** Has the caller mapped this frame by a grant? */
function maps(machine: Machine, call: HypercallCall, mfn: number): boolean {
  const { maptrack } = call.domain.grants;
  const handles = maptrack.handles();
  call.charge(20 * handles.length);
  return handles.some((handle) => {
    const { granter, ref } = maptrack.get(handle)!;
    return machine.domains.get(granter)?.grants.active(ref)?.mfn === mfn;
  });
}

function addSetup(group: OperationGroup, machine: Machine): void {
  /** The domain that a structure names, or a status. */
  const named = (call: HypercallCall, domid: number, action: string): Domain | number => {
    const domain = lookUpDomain(machine, call.domain, domid);
    if (domain === undefined) return GNTST.bad_domain;
    return checkAccess(machine, call.domain, action, domain, "target") < 0 ? GNTST.permission_denied : domain;
  };

  group.add(GNTTABOP.setup_table, "setup_table", (call) => {
    const layout = gnttab_setup_table.at(call.abi);
    return single(call, layout.size, (view) => {
      const count = layout.get(view, 0, "nr_frames");
      const list = { lo: layout.getLo(view, 0, "frame_list"), hi: layout.getHi(view, 0, "frame_list") };
      const domain = named(call, layout.get(view, 0, "dom"), "grant_setup");
      let status: number = typeof domain === "number" ? domain : GNTST.okay;
      if (typeof domain !== "number") {
        if (!domain.grants.grow(count)) status = GNTST.general_error;
        for (let i = 0; i < count && status === GNTST.okay; i++)
          if (!writeWord(call, list, i, domain.grants.frameAt(i))) status = GNTST.bad_virt_addr;
      }
      layout.set(view, 0, "status", status);
      return 0;
    });
  });
  group.add(GNTTABOP.query_size, "query_size", (call) => {
    const layout = gnttab_query_size.at(call.abi);
    return single(call, layout.size, (view) => {
      const domain = named(call, layout.get(view, 0, "dom"), "grant_query_size");
      if (typeof domain !== "number") {
        layout.set(view, 0, "nr_frames", domain.grants.frameCount);
        layout.set(view, 0, "max_nr_frames", domain.grants.limits.grantFrames);
      }
      layout.set(view, 0, "status", typeof domain === "number" ? domain : GNTST.okay);
      return 0;
    });
  });
  group.add(GNTTABOP.set_version, "set_version", (call) => {
    const layout = gnttab_set_version.at(call.abi);
    const view = call.readArg(1, layout.size);
    if (view === null) return -ERRNO.EFAULT;
    const version = layout.get(view, 0, "version");
    layout.set(view, 0, "version", 1);
    if (!call.writeArg(1, view, layout.size)) return -ERRNO.EFAULT;
    if (version === 1) return 0;
    return version === 2 ? -ERRNO.ENOSYS : -ERRNO.EINVAL;
  });
  group.add(GNTTABOP.get_version, "get_version", (call) => {
    const layout = gnttab_get_version.at(call.abi);
    const view = call.readArg(1, layout.size);
    if (view === null) return -ERRNO.EFAULT;
    const domain = lookUpDomain(machine, call.domain, layout.get(view, 0, "dom"));
    if (domain === undefined) return -ERRNO.ESRCH;
    const refused = checkAccess(machine, call.domain, "grant_query_size", domain, "target");
    if (refused < 0) return refused;
    layout.set(view, 0, "version", 1);
    return call.writeArg(1, view, layout.size) ? 0 : -ERRNO.EFAULT;
  });
  group.add(GNTTABOP.get_status_frames, "get_status_frames", (call) => {
    const layout = gnttab_get_status_frames.at(call.abi);
    return single(call, layout.size, (view) => {
      const domain = named(call, layout.get(view, 0, "dom"), "grant_setup");
      // Version 1 has no status frames: only a request for none succeeds.
      const none = layout.get(view, 0, "nr_frames") === 0 ? GNTST.okay : GNTST.general_error;
      layout.set(view, 0, "status", typeof domain === "number" ? domain : none);
      return 0;
    });
  });
  group.add(GNTTABOP.dump_table, "dump_table", () => -ERRNO.ENOSYS);
}

export function addGrantTableOp(table: HypercallTable, machine: Machine): void {
  const group = table.addGroup(__HYPERVISOR.grant_table_op, "grant_table_op", (call) => call.lo(0));
  addSetup(group, machine);
  addMapping(group, machine);
  addMoving(group, machine);
}
