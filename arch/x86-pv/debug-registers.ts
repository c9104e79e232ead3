/**
 * Virtual debug registers (Xen: set_debugreg, get_debugreg). The software CPU has no breakpoints: values are kept, checked as Xen checks
 * them, and have no effect but single-stepping's DR6.
 */
import { guestAddress } from "./mm/pte.ts";
import type { PvVcpu } from "./vcpu-state.ts";

/** Reads dr `index`; null: there is none (4 and 5 are aliases only without CR4.DE, which Xen treats as absent). */
export function getDebug(v: PvVcpu, index: number): { readonly lo: number; readonly hi: number } | null {
  if (index < 0 || index > 7 || index === 4 || index === 5) return null;
  return { lo: v.debugLo[index]!, hi: v.debugHi[index]! };
}

/** Writes dr `index`; false: the value or the register is refused. */
export function setDebug(v: PvVcpu, index: number, lo: number, hi: number): boolean {
  switch (index) {
    case 0:
    case 1:
    case 2:
    case 3:
      if (!guestAddress(hi)) return false;
      break;
    case 6:
      // Reserved bits read as ones and zeroes; the upper half must be clear.
      if (hi !== 0) return false;
      lo = ((lo & ~0x1000) | 0xffff_0ff0) >>> 0;
      break;
    case 7:
      if (hi !== 0) return false;
      // General detection is the hypervisor's; I/O breakpoints (kind 2) are refused.
      for (let i = 0; i < 4; i++) if (((lo >>> (i * 2)) & 3) !== 0 && ((lo >>> (16 + i * 4)) & 3) === 2) return false;
      lo = ((lo & ~(0xd800 | 0x2000)) | 0x400) >>> 0;
      break;
    default:
      return false;
  }
  v.debugLo[index] = lo;
  v.debugHi[index] = hi;
  return true;
}
