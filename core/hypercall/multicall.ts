/**
 * Multicall (13): a list of hypercalls made in order (Xen: common/multicall.c).
 *
 * Invariants: multicalls do not nest; a preempted inner call leaves its entry in guest memory with the arguments to go on
 * with, and the multicall is continued from that entry; iret inside ends the multicall.
 */
import { __HYPERVISOR, ERRNO, multicall_entry } from "../abi/index.ts";
import type { Machine } from "../machine/machine.ts";
import { ARGUMENTS, type CurrentCall } from "./call.ts";
import { type HypercallTable, Result } from "./table.ts";

/** Instructions for each entry, besides what its call costs. */
const ENTRY_COST = 50;

export function addMulticall(table: HypercallTable, machine: Machine, call: CurrentCall): void {
  const layout = multicall_entry.at(table.abi);
  const { fields } = layout;
  const word = new DataView(new ArrayBuffer(layout.size));

  /** From entry `index` on, the guest makes the multicall again. */
  const continueFrom = (index: number, total: number): number => {
    const lo = call.lo(0) + index * layout.size;
    const hi = table.abi.wordBytes === 4 ? 0 : (call.hi(0) + Math.floor(lo / 0x1_0000_0000)) >>> 0;
    call.setArgument(0, lo >>> 0, hi);
    call.setArgument(1, total - index);
    return call.continued();
  };

  table.add(__HYPERVISOR.multicall, "multicall", () => {
    if (call.inMulticall) return -ERRNO.EINVAL;
    const total = call.lo(1);
    for (let index = 0; index < total; index++) {
      if (index > 0 && call.preempted()) return continueFrom(index, total);
      const offset = index * layout.size;
      const entry = call.readArg(0, layout.size, offset);
      if (entry === null) return -ERRNO.EFAULT;
      call.charge(ENTRY_COST);
      const number = fields.op.getNumber(entry, 0);
      const target = table.entry(number);
      call.enter();
      for (let i = 0; i < ARGUMENTS; i++)
        call.setArgument(i, fields.args.getLo(entry, 0, i), fields.args.getHi(entry, 0, i));
      if (target !== null) call.charge(target.cost);
      const result = target === null ? -ERRNO.ENOSYS : target.handler(call);
      if (machine.hooks.hypercall.isUsed()) machine.hooks.hypercall.call(call.vcpu, number, result, machine.now);
      if (result === Result.noReturn) {
        call.leave();
        return result;
      }
      if (result === Result.continued) {
        for (let i = 0; i < ARGUMENTS; i++) fields.args.setLoHi(word, 0, call.lo(i), call.hi(i), i);
        call.leave();
        const from = fields.args.offset;
        const rest = new DataView(word.buffer, from, layout.size - from);
        if (!call.writeArg(0, rest, rest.byteLength, offset + from)) return -ERRNO.EFAULT;
        return continueFrom(index, total);
      }
      call.leave();
      fields.result.setNumber(word, 0, result);
      const at = fields.result.offset;
      if (!call.writeArg(0, new DataView(word.buffer, at, fields.result.size), fields.result.size, offset + at))
        return -ERRNO.EFAULT;
    }
    return 0;
  });
}
