/** hvm/hvm_vcpu.h: the state in which an HVM or PVH domain starts a vCPU. */
import { array, defineStruct, union } from "../struct.ts";

export const VCPU_HVM_MODE_32B = 0;
export const VCPU_HVM_MODE_64B = 1;

export const vcpu_hvm_x86_32 = defineStruct("vcpu_hvm_x86_32", {
  eax: "u32",
  ecx: "u32",
  edx: "u32",
  ebx: "u32",
  esp: "u32",
  ebp: "u32",
  esi: "u32",
  edi: "u32",
  eip: "u32",
  eflags: "u32",
  cr0: "u32",
  cr3: "u32",
  cr4: "u32",
  pad1: "u32",
  efer: "u64",
  cs_base: "u32",
  ds_base: "u32",
  ss_base: "u32",
  es_base: "u32",
  tr_base: "u32",
  cs_limit: "u32",
  ds_limit: "u32",
  ss_limit: "u32",
  es_limit: "u32",
  tr_limit: "u32",
  cs_ar: "u16",
  ds_ar: "u16",
  ss_ar: "u16",
  es_ar: "u16",
  tr_ar: "u16",
  pad2: array("u16", 3),
});
export const vcpu_hvm_x86_64 = defineStruct("vcpu_hvm_x86_64", {
  rax: "u64",
  rcx: "u64",
  rdx: "u64",
  rbx: "u64",
  rsp: "u64",
  rbp: "u64",
  rsi: "u64",
  rdi: "u64",
  rip: "u64",
  rflags: "u64",
  cr0: "u64",
  cr3: "u64",
  cr4: "u64",
  efer: "u64",
});
export const vcpu_hvm_context = defineStruct("vcpu_hvm_context", {
  mode: "u32",
  pad: "u32",
  cpu_regs: union({ x86_32: vcpu_hvm_x86_32, x86_64: vcpu_hvm_x86_64 }),
});
