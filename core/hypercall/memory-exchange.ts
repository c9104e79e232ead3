/**
 * XENMEM_exchange: hands in extents of frames for others of another size (Xen: common/memory.c, memory_exchange).
 *
 * Invariants: a chunk is exchanged whole or not at all; nr_exchanged in guest memory says at every preemption and at the end how many
 * input extents are done; frames in use are refused before anything changes.
 */
import { ERRNO, XENMEM, xen_memory_exchange } from "../abi/index.ts";
import { checkAccess, lookUpDomain } from "../domain/access.ts";
import type { Domain } from "../domain/domain.ts";
import { INVALID_GFN, type Mfn, OutOfFrames } from "../machine/frames.ts";
import type { Machine } from "../machine/machine.ts";
import { type Handle, readWord, writeWord } from "./guest-list.ts";
import { isSpare, MAX_ORDER } from "./reservation.ts";
import type { HypercallCall, OperationGroup } from "./table.ts";

/** Instructions a frame. */
const FRAME_COST = 600;

interface Side {
  readonly list: Handle;
  readonly count: number;
  readonly order: number;
}

/** The input frames of one chunk with the gfns they are named by, or a negative errno. */
function inputFrames(
  machine: Machine,
  call: HypercallCall,
  domain: Domain,
  side: Side,
  first: number,
  extents: number,
): { gfns: number[]; mfns: Mfn[] } | number {
  const gfns: number[] = [];
  const mfns: Mfn[] = [];
  for (let i = 0; i < extents; i++) {
    const base = readWord(call, side.list, first + i);
    if (base === null) return -ERRNO.EFAULT;
    for (let k = 0; k < 2 ** side.order; k++) {
      const gfn = base + k;
      const mfn = gfn <= 0xffffffff ? domain.arch!.gfnToMfn(domain, gfn) : -1;
      if (!isSpare(machine, domain, mfn)) return -ERRNO.EINVAL;
      gfns.push(gfn);
      mfns.push(mfn);
    }
  }
  return new Set(mfns).size === mfns.length ? { gfns, mfns } : -ERRNO.EINVAL;
}

/** The gfns that the outputs of one chunk are to have, or a negative errno. */
function outputGfns(call: HypercallCall, side: Side, first: number, extents: number): number[] | number {
  const gfns: number[] = [];
  for (let i = 0; i < extents; i++) {
    const gfn = readWord(call, side.list, first + i);
    if (gfn === null) return -ERRNO.EFAULT;
    if (gfn + 2 ** side.order > INVALID_GFN) return -ERRNO.EINVAL;
    gfns.push(gfn);
  }
  return gfns;
}

/** Fresh extents, or nothing. */
function allocate(machine: Machine, domain: Domain, order: number, extents: number): Mfn[] | null {
  const { frames } = machine;
  const got: Mfn[] = [];
  try {
    for (let i = 0; i < extents; i++)
      got.push(
        order === 0 ? frames.allocate(domain.id, 1)[0]! : frames.allocateContiguous(domain.id, 2 ** order, 2 ** order),
      );
    return got;
  } catch (error) {
    if (!(error instanceof OutOfFrames)) throw error;
    for (const first of got) for (let k = 0; k < 2 ** order; k++) frames.dropAllocation(first + k);
    return null;
  }
}

/** Exchanges one chunk: 0 or a negative errno. */
function exchangeChunk(machine: Machine, call: HypercallCall, domain: Domain, from: Side, to: Side, at: Chunk): number {
  const { frames } = machine;
  const arch = domain.arch!;
  const input = inputFrames(machine, call, domain, from, at.from, at.fromExtents);
  if (typeof input === "number") return input;
  const gfns = outputGfns(call, to, at.to, at.toExtents);
  if (typeof gfns === "number") return gfns;
  const fresh = allocate(machine, domain, to.order, at.toExtents);
  if (fresh === null) return -ERRNO.ENOMEM;
  const places = input.mfns.map((mfn) => frames.gfnOf[mfn]!);
  for (const [i, mfn] of input.mfns.entries()) {
    if (arch.releaseFrame(domain, input.gfns[i]!, mfn)) continue;
    for (let j = 0; j < i; j++) {
      frames.setGfn(input.mfns[j]!, places[j]!);
      arch.acquireFrame(domain, input.gfns[j]!, input.mfns[j]!);
    }
    for (const first of fresh) for (let k = 0; k < 2 ** to.order; k++) frames.dropAllocation(first + k);
    return -ERRNO.EINVAL;
  }
  for (const mfn of input.mfns) frames.dropAllocation(mfn);
  let result = 0;
  for (const [i, first] of fresh.entries()) {
    for (let k = 0; k < 2 ** to.order; k++) {
      frames.setGfn(first + k, gfns[i]! + k);
      arch.acquireFrame(domain, gfns[i]! + k, first + k);
    }
    if (!writeWord(call, to.list, at.to + i, first)) result = -ERRNO.EFAULT;
  }
  return result;
}

/** First extents and numbers of extents of a chunk. */
interface Chunk {
  readonly from: number;
  readonly fromExtents: number;
  readonly to: number;
  readonly toExtents: number;
}

export function addMemoryExchange(group: OperationGroup, machine: Machine): void {
  group.add(XENMEM.exchange, "exchange", (call) => {
    const layout = xen_memory_exchange.at(call.abi);
    const view = call.readArg(1, layout.size);
    if (view === null) return -ERRNO.EFAULT;
    const side = (name: "in" | "out"): Side => ({
      list: {
        lo: layout.getLo(view, 0, `${name}.extent_start`),
        hi: layout.getHi(view, 0, `${name}.extent_start`),
      },
      count: layout.getNumber(view, 0, `${name}.nr_extents`),
      order: layout.get(view, 0, `${name}.extent_order`),
    });
    const [from, to] = [side("in"), side("out")];
    const domids = [layout.get(view, 0, "in.domid"), layout.get(view, 0, "out.domid")];
    let done = layout.getNumber(view, 0, "nr_exchanged");
    if (from.order > MAX_ORDER || to.order > MAX_ORDER) return -ERRNO.EPERM;
    const sameSize = from.count * 2 ** from.order === to.count * 2 ** to.order;
    if (domids[0] !== domids[1] || !sameSize || from.count * 2 ** from.order > 0xffffffff || done > from.count)
      return -ERRNO.EINVAL;
    const domain = lookUpDomain(machine, call.domain, domids[0]!);
    if (domain === undefined) return -ERRNO.ESRCH;
    const refused = checkAccess(machine, call.domain, "memory_exchange", domain, "target");
    if (refused < 0) return refused;
    const order = Math.max(from.order, to.order);
    const fromExtents = 2 ** (order - from.order);
    const toExtents = 2 ** (order - to.order);
    if (done % fromExtents !== 0) return -ERRNO.EINVAL;

    const number = new DataView(new ArrayBuffer(8));
    const field = layout.fields.nr_exchanged;
    const report = (): boolean => {
      const words = new DataView(new ArrayBuffer(layout.size));
      field.setNumber(words, 0, done);
      for (let i = 0; i < field.size; i++) number.setUint8(i, words.getUint8(field.offset + i));
      return call.writeArg(1, number, field.size, field.offset);
    };
    const start = done;
    while (done + fromExtents <= from.count) {
      if (done > start && call.preempted()) return report() ? call.continued() : -ERRNO.EFAULT;
      call.charge(FRAME_COST << order);
      const at: Chunk = { from: done, fromExtents, to: (done / fromExtents) * toExtents, toExtents };
      const result = exchangeChunk(machine, call, domain, from, to, at);
      if (result < 0) return report() ? result : -ERRNO.EFAULT;
      done += fromExtents;
    }
    return report() ? 0 : -ERRNO.EFAULT;
  });
}
