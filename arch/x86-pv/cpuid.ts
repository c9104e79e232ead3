/**
 * CPUID as PV guests see it: the library's policy, less what a PV guest cannot have, and Xen's leaves at 0x40000000
 * (public/arch-x86/cpuid.h).
 */
import { xen } from "hookvisor";
import { type CpuidPolicy, defaultCpuid } from "../x86/cpuid.ts";

const FIRST = xen.XEN_CPUID_FIRST_LEAF;

/** Makes the policy for a Xen version. The TSC counts nanoseconds. */
export function pvCpuid(version: { readonly major: number; readonly minor: number }): CpuidPolicy {
  const policy = defaultCpuid();
  // Large pages are not for PV guests; an APIC is nowhere; hypervisor: Xen's leaves are there.
  policy.setFeature("pse", false);
  policy.setFeature("hypervisor", true);
  policy.set(FIRST, {
    eax: FIRST + 4 + 1,
    ebx: xen.XEN_CPUID_SIGNATURE_EBX,
    ecx: xen.XEN_CPUID_SIGNATURE_ECX,
    edx: xen.XEN_CPUID_SIGNATURE_EDX,
  });
  policy.set(FIRST + 1, { eax: ((version.major << 16) | version.minor) >>> 0 });
  // One hypercall page, by the MSR 0x40000000.
  policy.set(FIRST + 2, { eax: 1, ebx: 0x4000_0000, ecx: xen.XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD });
  // Time: the host's TSC is safe (bit 1), rdtscp is there (bit 2); EBX 2 is "never emulate", ECX the frequency in kHz.
  policy.set(FIRST + 3, { eax: 0x6, ebx: 2, ecx: 1_000_000, edx: 0 }, 0);
  policy.set(FIRST + 3, { ecx: 0x8000_0000, edx: 1 }, 1);
  policy.set(FIRST + 3, { eax: 1_000_000 }, 2);
  policy.set(FIRST + 4, {});
  policy.set(FIRST + 5, { ebx: 32 });
  return policy;
}
