/**
 * VCPUOP_initialise: a secondary vCPU's first state from the guest's vcpu_guest_context (Xen: arch_set_info_guest).
 *
 * Invariant: an error leaves the vCPU without a root and without descriptor tables, so that it can be tried again.
 */
import { ABI_X86_64, xen } from "hookvisor";
import type { PvContext } from "./context.ts";
import { CS, DS, ES, FLAG_IF, FLAG_IOPL, FLAG_VM, FS, GS, SS } from "./cpu.ts";
import { setDebug } from "./debug-registers.ts";
import { setGdt } from "./descriptor-tables.ts";
import { canonical, guestAddress, pteFrame, TYPE_SEGMENTS } from "./mm/pte.ts";
import { setKernelRoot, setUserRoot } from "./mm/roots.ts";
import type { VcpuInfo } from "./traps/bounce.ts";
import type { Callback, PvVcpu } from "./vcpu-state.ts";

const CONTEXT = xen.x86_64.vcpu_guest_context.at(ABI_X86_64);
const { fields } = CONTEXT;
const { ERRNO, VGCF } = xen;
const CR0_TS = 8;

/** user_regs members in the order of register numbers. */
const REGISTERS = [
  "user_regs.rax",
  "user_regs.rcx",
  "user_regs.rdx",
  "user_regs.rbx",
  "user_regs.rsp",
  "user_regs.rbp",
  "user_regs.rsi",
  "user_regs.rdi",
  "user_regs.r8",
  "user_regs.r9",
  "user_regs.r10",
  "user_regs.r11",
  "user_regs.r12",
  "user_regs.r13",
  "user_regs.r14",
  "user_regs.r15",
] as const;

/** Sets up `v` from the context at (lo, hi) of `caller`'s kernel: 0 or a negative errno. */
export function initialiseVcpu(
  context: PvContext,
  v: PvVcpu,
  caller: PvVcpu,
  lo: number,
  hi: number,
  info: VcpuInfo,
): number {
  const bytes = new Uint8Array(CONTEXT.size);
  if (!context.memory.copyFrom(caller.kernelRoot, lo, hi, bytes, bytes.length)) return -ERRNO.EFAULT;
  context.host.charge(bytes.length);
  const view = new DataView(bytes.buffer);
  const failed = apply(context, v, view, bytes);
  if (failed !== 0) {
    v.release();
    return failed;
  }
  info.setMask(v, true);
  return 0;
}

function apply(context: PvContext, v: PvVcpu, view: DataView, bytes: Uint8Array): number {
  const { cpu } = v;
  const gdtEntries = fields.gdt_ents.getNumber(view, 0);
  const ldtEntries = fields.ldt_ents.getNumber(view, 0);
  const ldtLo = fields.ldt_base.getLo(view, 0);
  const ldtHi = fields.ldt_base.getHi(view, 0);
  if (gdtEntries > xen.FIRST_RESERVED_GDT_ENTRY || ldtEntries > 8192) return -ERRNO.EINVAL;
  if (ldtEntries > 0 && ((ldtLo & 0xfff) !== 0 || !guestAddress(ldtHi))) return -ERRNO.EINVAL;
  for (let i = 0; i < 256; i++) {
    const addressHi = fields["trap_ctxt.address"].getHi(view, 0, i);
    if (!canonical(addressHi)) return -ERRNO.EINVAL;
    v.trapFlags[i] = fields["trap_ctxt.flags"].get(view, 0, i);
    v.trapSelector[i] = fields["trap_ctxt.cs"].get(view, 0, i) | 3;
    v.trapLo[i] = fields["trap_ctxt.address"].getLo(view, 0, i);
    v.trapHi[i] = addressHi;
  }
  const gdt: number[] = [];
  for (let i = 0; i < Math.ceil(gdtEntries / 512); i++)
    gdt.push(fields.gdt_frames.getHi(view, 0, i) === 0 ? fields.gdt_frames.getLo(view, 0, i) : -1);
  if (setGdt(v, gdt, gdtEntries, TYPE_SEGMENTS) !== 0) return -ERRNO.EINVAL;
  const root = (index: number): number =>
    pteFrame(fields.ctrlreg.getLo(view, 0, index), fields.ctrlreg.getHi(view, 0, index));
  if (setKernelRoot(v, root(3), context.strict(v)) !== 0) return -ERRNO.EINVAL;
  // ctrlreg[1] holds the user root, marked as present in bit 0 or not; 0: none yet.
  if (root(1) !== 0 && setUserRoot(v, root(1), context.strict(v)) !== 0) return -ERRNO.EINVAL;
  const flags = fields.flags.getLo(view, 0);
  const kernel = (flags & VGCF.in_kernel) !== 0;
  if (!kernel && v.userRoot === 0) return -ERRNO.EINVAL;

  REGISTERS.forEach((name, register) => {
    cpu.set(register, fields[name].getLo(view, 0), fields[name].getHi(view, 0));
  });
  cpu.setRip(fields["user_regs.rip"].getLo(view, 0), fields["user_regs.rip"].getHi(view, 0));
  const rflags = fields["user_regs.rflags"].getLo(view, 0);
  v.iopl = (rflags >>> 12) & 3;
  cpu.setFlags(((rflags & ~(FLAG_IOPL | FLAG_VM)) | FLAG_IF | 2) >>> 0);
  v.ldtLo = ldtLo;
  v.ldtHi = ldtHi;
  v.ldtEntries = ldtEntries;
  v.kernelSs = fields.kernel_ss.getLo(view, 0) | 3;
  v.kernelSpLo = fields.kernel_sp.getLo(view, 0);
  v.kernelSpHi = fields.kernel_sp.getHi(view, 0);
  const callback = (to: Callback, name: "event" | "failsafe" | "syscall", mask: boolean): void => {
    const field = fields[`${name}_callback_eip`];
    if (!canonical(field.getHi(view, 0))) return;
    to.lo = field.getLo(view, 0);
    to.hi = field.getHi(view, 0);
    to.mask = mask;
  };
  callback(v.event, "event", true);
  callback(v.failsafe, "failsafe", (flags & VGCF.failsafe_disables_events) !== 0);
  callback(v.syscall, "syscall", (flags & VGCF.syscall_disables_events) !== 0);
  v.setTaskSwitched((fields.ctrlreg.getLo(view, 0, 0) & CR0_TS) !== 0);
  for (const i of [0, 1, 2, 3, 6, 7])
    setDebug(v, i, fields.debugreg.getLo(view, 0, i), fields.debugreg.getHi(view, 0, i));
  if ((flags & VGCF.i387_valid) !== 0 && !cpu.loadFpu(bytes.subarray(0, 512))) return -ERRNO.EINVAL;

  const selectors: [number, "cs" | "ss" | "ds" | "es" | "fs" | "gs"][] = [
    [CS, "cs"],
    [SS, "ss"],
    [DS, "ds"],
    [ES, "es"],
    [FS, "fs"],
    [GS, "gs"],
  ];
  for (const [register, name] of selectors) {
    const selector = fields[`user_regs.${name}`].get(view, 0);
    const must = register === CS || register === SS;
    if (context.traps.loadSegment(v, register, must ? selector | 3 : selector) === 0) continue;
    if (must) return -ERRNO.EINVAL;
    cpu.setSegment(register, 0, 0, 0, 0);
  }
  cpu.setBase(FS, fields.fs_base.getLo(view, 0), fields.fs_base.getHi(view, 0));
  cpu.setBase(GS, fields.gs_base_kernel.getLo(view, 0), fields.gs_base_kernel.getHi(view, 0));
  v.otherGsLo = fields.gs_base_user.getLo(view, 0);
  v.otherGsHi = fields.gs_base_user.getHi(view, 0);
  v.kernelMode = true;
  if (!kernel) v.setMode(false);
  return 0;
}
