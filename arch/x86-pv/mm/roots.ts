/**
 * Roots of a PV vCPU's address spaces (MMUEXT_NEW_BASEPTR and NEW_USER_BASEPTR; Xen: new_guest_cr3).
 *
 * `strict` is VMASST_TYPE_m2p_strict: the m2p is hidden from the guest's user mode, else it is inserted into kernel roots.
 * Invariant: a root in use holds a page and a type reference of its L4 table, taken before the old one's are given back.
 */
import { xen } from "hookvisor";
import type { PvVcpu } from "../vcpu-state.ts";
import { TYPE_L4 } from "./pte.ts";

/** Installs the kernel's root, 0 or a negative errno. The same root again only flushes. Frame 0 is no root: 0 says that there is none. */
export function setKernelRoot(v: PvVcpu, mfn: number, strict: boolean): number {
  if (mfn === 0) return -xen.ERRNO.EINVAL;
  if (mfn !== v.kernelRoot) {
    const failed = v.tables.getPageAndType(mfn, TYPE_L4, v.vcpu.domain.id);
    if (failed !== 0) return failed;
    if (!strict) v.tables.setM2pSlot(mfn, true);
    const old = v.kernelRoot;
    v.kernelRoot = mfn;
    if (v.releaseLdt()) v.cpu.flushAll();
    if (old !== 0) v.tables.putPageAndType(old);
  }
  v.cpu.setRoot(false, mfn);
  return 0;
}

/** Installs the user mode's root; 0 is none. */
export function setUserRoot(v: PvVcpu, mfn: number, strict: boolean): number {
  const old = v.userRoot;
  if (mfn === old) return 0;
  if (mfn !== 0) {
    const failed = v.tables.getPageAndType(mfn, TYPE_L4, v.vcpu.domain.id);
    if (failed !== 0) return failed;
    if (strict) v.tables.setM2pSlot(mfn, false);
  }
  v.userRoot = mfn;
  if (mfn !== 0) v.cpu.setRoot(true, mfn);
  if (old !== 0) v.tables.putPageAndType(old);
  return 0;
}
