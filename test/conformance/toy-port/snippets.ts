/** Pieces of toy programs that several tests use. Registers: r7 and below are the caller's to lose; handlers of upcalls use r10 and r11. */
import { type GuestAbi, xen } from "hookvisor";
import { TOY_ABI } from "./image.ts";
import type { Assembler, Operand } from "./isa.ts";

const H = xen.__HYPERVISOR;

/** Offsets in shared info. */
export const SHARED = sharedOffsets(TOY_ABI);

function sharedOffsets(abi: GuestAbi) {
  const layout = xen.defineSharedInfo(xen.vcpu_info, xen.arch_shared_info, abi.legacyVcpus).at(abi);
  return {
    upcallPending: 0,
    upcallMask: 1,
    selector: xen.vcpu_info.at(abi).fields.evtchn_pending_sel.offset,
    time: xen.vcpu_info.at(abi).fields.time.offset,
    pending: layout.fields.evtchn_pending.offset,
    mask: layout.fields.evtchn_mask.offset,
    wallclock: layout.fields.wc_sec.offset,
  };
}

/** Variables that `begin` makes, from the registers that a toy guest starts with. */
const START = ["shared", "store ring", "console ring", "store port", "console port", "command line", "memory end"];

/** Saves the start registers in variables. */
export function begin(p: Assembler): Assembler {
  for (const [i, name] of START.entries()) {
    p.data(name, 4);
    p.store(1 + i, name);
  }
  return p;
}

/** Clears the pending bits of ports 0 to 31 and everything that led to them. Uses r10, r11. */
export function acknowledge(p: Assembler): Assembler {
  return p
    .load(10, "shared")
    .li(11, 0)
    .sb(11, 10, SHARED.upcallPending)
    .sw(11, 10, SHARED.selector)
    .sw(11, 10, SHARED.pending);
}

/** SCHEDOP_poll for the port in the variable `port`, then clears what is pending. */
export function wait(p: Assembler, port: string): Assembler {
  const name = p.struct(p.fresh("poll"), xen.sched_poll, { nr_ports: 1 });
  p.pointer(name, xen.sched_poll.at(TOY_ABI).fields.ports.offset, port);
  p.hypercall(H.sched_op, [xen.SCHEDOP.poll, name]);
  return acknowledge(p);
}

/** Sends an event to the port in the variable `port`. */
export function notify(p: Assembler, port: string): Assembler {
  return p.hypercall(H.event_channel_op, [xen.EVTCHNOP.send, port]);
}

/** Copies bytes from a label to an address in a register, plus an offset. Uses r8 to r12. */
export function copy(p: Assembler, from: string, to: Operand, offset: number, length: number): Assembler {
  p.set(9, to).addi(9, 9, offset).li(8, from);
  return p.loop(10, length, () => p.lb(11, 8).sb(11, 9).addi(8, 8, 1).addi(9, 9, 1));
}

/** Registers the upcall handler "upcall", with events unmasked; `body` is its middle and may use r10, r11 only. */
export function upcalls(p: Assembler, body: () => void): Assembler {
  const over = p.fresh("over");
  p.jump(over).label("upcall");
  body();
  acknowledge(p).eret();
  p.label(over).li(10, "upcall").upcall(10);
  return p.load(10, "shared").li(11, 0).sb(11, 10, SHARED.upcallMask);
}

/** Adds one to a variable. Uses r10, r11. */
export function count(p: Assembler, name: string): Assembler {
  return p.li(10, name).lw(11, 10).addi(11, 11, 1).sw(11, 10);
}
