/** What the x86 library offers to arch plugins; README.md beside this file says how to use it. */
export { CPUID_FEATURES, type CpuidFeature, type CpuidLeaf, CpuidPolicy, defaultCpuid } from "./cpuid.ts";
export {
  SEG_CS,
  SEG_DS,
  SEG_ES,
  SEG_FS,
  SEG_GS,
  SEG_SS,
} from "./decode.ts";
export * from "./paging.ts";
export * from "./platform.ts";
export * from "./state.ts";
export {
  X86_EXIT_BUDGET,
  X86_EXIT_EXCEPTION,
  X86_EXIT_PLATFORM,
  X86Machine,
  type X86MachineOptions,
  X86Vcpu,
} from "./vcpu.ts";
