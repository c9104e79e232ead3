/**
 * Xen's public ABI, by the names of its headers. What 32-bit and 64-bit x86 define differently under one name is in the
 * namespaces x86_64 and x86_32.
 */
export * from "./arch-x86/cpuid.ts";
export * from "./arch-x86/hvm/start_info.ts";
export * from "./arch-x86/xen.ts";
export * as x86_32 from "./arch-x86/xen-x86_32.ts";
export * as x86_64 from "./arch-x86/xen-x86_64.ts";
export * from "./callback.ts";
export * from "./elfnote.ts";
export * from "./errno.ts";
export * from "./event-channel.ts";
export * from "./features.ts";
export * from "./grant-table.ts";
export * from "./hvm/hvm_info_table.ts";
export * from "./hvm/hvm_op.ts";
export * from "./hvm/hvm_vcpu.ts";
export * from "./hvm/params.ts";
export * from "./io/blkif.ts";
export * from "./io/console.ts";
export * from "./io/netif.ts";
export * from "./io/ring.ts";
export * from "./io/xenbus.ts";
export * from "./memory.ts";
export * from "./nmi.ts";
export * from "./physdev.ts";
export * from "./sched.ts";
export * from "./struct.ts";
export * from "./table.ts";
export * from "./vcpu.ts";
export * from "./version.ts";
export * from "./xen.ts";
export * from "./xs-wire.ts";
