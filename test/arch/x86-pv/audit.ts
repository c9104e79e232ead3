/**
 * Audits a machine of PV domains from outside: counts every reference of every frame anew, and looks into every TLB.
 *
 * What must hold whatever guests do: a frame's counts are exactly what page tables, pins, roots, descriptor tables and grants hold of it;
 * no valid page table maps a page table writable, or a frame of somebody else's without a grant; no TLB and no jump cache of
 * a vCPU leads to a frame that the vCPU's domain may not reach so. Not counted: event arrays of the FIFO ABI, frames of devices.
 */
import { type Domain, type Frames, FrameType, OWNER_XEN } from "hookvisor";
import {
  ENTRIES,
  FETCH_TLB,
  GENERATION,
  JUMP_CACHE,
  mmuOffset,
  READ_TLB,
  WRITE_TLB,
} from "../../../arch/translate/map.ts";
import { MMU_INDEXES } from "../../../arch/x86/paging.ts";
import type { PvBackend } from "../../../arch/x86-pv/backend.ts";
import type { X86Cpu } from "../../../arch/x86-pv/cpu-x86.ts";
import { PTE_HI_GRANT, PTE_P, PTE_RW, pteFrame, TYPE_L1, TYPE_L4 } from "../../../arch/x86-pv/mm/pte.ts";
import type { Machine } from "../../../core/machine/machine.ts";

const FIRST_XEN_SLOT = 256;
const LAST_XEN_SLOT = 271;

/** Everything that is wrong; an empty list is a sound machine. */
export function audit(machine: Machine, backend: PvBackend): string[] {
  const wrong: string[] = [];
  const { frames } = machine;
  const domains = [...machine.domains.values()].filter((domain) => domain.type === "pv" && !domain.dying);
  auditCounts(frames, backend, domains, wrong);
  for (const domain of domains) auditTlbs(machine, backend, domain, wrong);
  return wrong;
}

/** Frames of others that a domain has mapped by grants, and whether for writing. */
function granted(machine: Machine, domain: Domain): Map<number, boolean> {
  const found = new Map<number, boolean>();
  const { maptrack } = domain.grants;
  for (const handle of maptrack.handles()) {
    const { granter, ref, flags } = maptrack.get(handle)!;
    const mfn = machine.domains.get(granter)?.grants.active(ref)?.mfn;
    if (mfn !== undefined) found.set(mfn, (found.get(mfn) ?? false) || (flags & 4) === 0);
  }
  return found;
}

function auditCounts(frames: Frames, backend: PvBackend, domains: readonly Domain[], wrong: string[]): void {
  const { tables } = backend;
  const refs = new Int32Array(frames.count);
  const types = new Int32Array(frames.count);
  const both = (mfn: number): void => {
    refs[mfn]!++;
    types[mfn]!++;
  };
  const own = new Set(domains.map((domain) => domain.id));
  for (let mfn = 0; mfn < frames.count; mfn++) {
    refs[mfn]! += frames.allocated[mfn]!;
    if (!own.has(frames.owner[mfn]!)) continue;
    if (tables.isPinned(mfn)) both(mfn);
    const level = frames.type[mfn]! - TYPE_L1 + 1;
    if (frames.typeCount[mfn] === 0 || level < 1 || frames.type[mfn]! > TYPE_L4) continue;
    for (let i = 0; i < PTES; i++) {
      if (level === 4 && i >= FIRST_XEN_SLOT && i <= LAST_XEN_SLOT) continue;
      const lo = tables.entryLo(mfn, i);
      const hi = tables.entryHi(mfn, i);
      if ((lo & PTE_P) === 0) continue;
      const to = pteFrame(lo, hi);
      const where = `entry ${i} of L${level} table ${mfn}`;
      if (!frames.valid(to)) wrong.push(`${where} names frame ${to}`);
      else if (level === 1 && (hi & PTE_HI_GRANT) !== 0) continue;
      else if (frames.owner[to] !== frames.owner[mfn]) wrong.push(`${where} maps frame ${to} of ${frames.owner[to]}`);
      else if (level === 1) {
        refs[to]!++;
        if ((lo & PTE_RW) === 0) continue;
        types[to]!++;
        if (frames.type[to] !== FrameType.writable)
          wrong.push(`${where} may write frame ${to}, type ${frames.type[to]}`);
      } else if (to !== mfn) {
        both(to);
        const linear = frames.type[to] === frames.type[mfn] && (lo & PTE_RW) === 0;
        if (!linear && frames.type[to] !== frames.type[mfn]! - 1)
          wrong.push(`${where} names a type ${frames.type[to]}`);
      } else if ((lo & PTE_RW) !== 0) wrong.push(`${where} maps itself writable`);
    }
  }
  for (const domain of domains) {
    types[domain.sharedInfo]!++;
    for (let i = 0; i < domain.grants.ownFrames; i++) types[domain.grants.frameAt(i)]!++;
    if (domain.store.mfn >= 0) both(domain.store.mfn);
    for (const vcpu of domain.vcpus) {
      if (vcpu.infoMfn >= 0) both(vcpu.infoMfn);
      const v = backend.stateOf(vcpu);
      for (const mfn of [v.kernelRoot, v.userRoot]) if (mfn !== 0) both(mfn);
      for (const mfn of v.gdtFrames) both(mfn);
      for (const mfn of v.ldtFrames) if (mfn >= 0) both(mfn);
    }
    for (let ref = 0; ref < domain.grants.entries; ref++) {
      const grant = domain.grants.active(ref);
      if (grant === undefined) continue;
      const writers = grant.hostWriters + grant.deviceWriters;
      refs[grant.mfn]! += writers + grant.hostReaders + grant.deviceReaders;
      types[grant.mfn]! += writers;
    }
  }
  for (let mfn = 0; mfn < frames.count; mfn++) {
    if (!own.has(frames.owner[mfn]!)) continue;
    if (refs[mfn] !== frames.refs[mfn])
      wrong.push(`frame ${mfn}, type ${frames.type[mfn]}: ${frames.refs[mfn]} references, ${refs[mfn]} found`);
    if (types[mfn] !== frames.typeCount[mfn])
      wrong.push(`frame ${mfn}: ${frames.typeCount[mfn]} of type ${frames.type[mfn]}, ${types[mfn]} found`);
  }
}

const PTES = 512;

function auditTlbs(machine: Machine, backend: PvBackend, domain: Domain, wrong: string[]): void {
  const { frames } = machine;
  const { engine } = backend.machine;
  const foreign = granted(machine, domain);
  const readable = (mfn: number): boolean => {
    const owner = frames.owner[mfn];
    return owner === domain.id || owner === OWNER_XEN || foreign.has(mfn);
  };
  const writable = (mfn: number): boolean => {
    if (foreign.has(mfn) && frames.owner[mfn] !== domain.id) return foreign.get(mfn) === true;
    return frames.owner[mfn] === domain.id && (frames.type[mfn]! < TYPE_L1 || frames.typeCount[mfn] === 0);
  };
  for (const vcpu of domain.vcpus) {
    const { base } = (backend.stateOf(vcpu).cpu as X86Cpu).x.translated;
    for (let mmu = 0; mmu < MMU_INDEXES; mmu++) {
      const part = base + mmuOffset(mmu);
      for (const [table, name, may] of [
        [READ_TLB, "read", readable],
        [WRITE_TLB, "write", writable],
        [FETCH_TLB, "fetch", readable],
      ] as const)
        for (let i = 0; i < ENTRIES; i++) {
          const at = (part + table + i * 16) >> 2;
          if (engine.i32[at + 2] === -1) continue;
          const mfn = ((engine.i32[at]! + engine.i32[at + 2]!) >>> 0) >>> 12;
          if (!may(mfn))
            wrong.push(`${name} TLB ${mmu} of ${vcpu}: frame ${mfn} of ${frames.owner[mfn]}, type ${frames.type[mfn]}`);
        }
      const generation = engine.i32[(part + GENERATION) >> 2]!;
      for (let i = 0; i < ENTRIES; i++) {
        const at = (part + JUMP_CACHE + i * 16) >> 2;
        const ip = engine.i32[at + 2]!;
        if (ip === 0 || engine.i32[at + 3]! >> 8 !== generation) continue;
        const mfn = engine.i32[(ip >> 2) + 1]!;
        if (mfn >= 0 && !readable(mfn))
          wrong.push(`jump cache ${mmu} of ${vcpu}: frame ${mfn} of ${frames.owner[mfn]}`);
      }
    }
  }
}
