/**
 * The CPUID policy: what the software CPU says it is.
 *
 * Design: a policy is a plain table of leaves; `defaultCpuid` builds the one that advertises exactly what this library emulates.
 * A platform copies it and masks or adds (APIC id, topology, hypervisor leaves 0x40000000..., features it does not offer).
 * Leaf layout and bit numbers: SDM volume 2, CPUID; AMD APM volume 3, appendix E.
 *
 * Invariant: no bit is set for an instruction that the lifter answers with #UD.
 */

/** EAX, EBX, ECX, EDX of one leaf, as unsigned 32-bit numbers. */
export interface CpuidLeaf {
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

/** Features by the leaf and register that carries them: name -> [leaf, register, bit]. */
export const CPUID_FEATURES = {
  fpu: [1, "edx", 0],
  de: [1, "edx", 2],
  pse: [1, "edx", 3],
  tsc: [1, "edx", 4],
  msr: [1, "edx", 5],
  pae: [1, "edx", 6],
  mce: [1, "edx", 7],
  cx8: [1, "edx", 8],
  apic: [1, "edx", 9],
  mtrr: [1, "edx", 12],
  pge: [1, "edx", 13],
  mca: [1, "edx", 14],
  cmov: [1, "edx", 15],
  pat: [1, "edx", 16],
  clflush: [1, "edx", 19],
  mmx: [1, "edx", 23],
  fxsr: [1, "edx", 24],
  sse: [1, "edx", 25],
  sse2: [1, "edx", 26],
  cx16: [1, "ecx", 13],
  x2apic: [1, "ecx", 21],
  popcnt: [1, "ecx", 23],
  tscDeadline: [1, "ecx", 24],
  hypervisor: [1, "ecx", 31],
  fsgsbase: [7, "ebx", 0],
  erms: [7, "ebx", 9],
  syscall: [0x80000001, "edx", 11],
  nx: [0x80000001, "edx", 20],
  page1gb: [0x80000001, "edx", 26],
  rdtscp: [0x80000001, "edx", 27],
  lm: [0x80000001, "edx", 29],
  lahf: [0x80000001, "ecx", 0],
  prefetchw: [0x80000001, "ecx", 8],
  invariantTsc: [0x80000007, "edx", 8],
} as const satisfies Record<string, readonly [number, keyof CpuidLeaf, number]>;

export type CpuidFeature = keyof typeof CPUID_FEATURES;

/** What the library emulates and therefore advertises, before the platform adds its own (APIC, hypervisor...). */
export const EMULATED_FEATURES: readonly CpuidFeature[] = [
  "fpu",
  "de",
  "pse",
  "tsc",
  "msr",
  "pae",
  "cx8",
  "cmov",
  "clflush",
  "mmx",
  "fxsr",
  "sse",
  "sse2",
  "cx16",
  "popcnt",
  "fsgsbase",
  "erms",
  "syscall",
  "nx",
  "rdtscp",
  "lm",
  "lahf",
  "prefetchw",
  "invariantTsc",
];

/** A CPUID table. Lookup follows the hardware: an unknown basic leaf answers zeros (AMD's rule). */
export class CpuidPolicy {
  /** Keyed by leaf * 0x100 + subleaf (subleaf below 0x100). */
  private readonly leaves = new Map<number, CpuidLeaf>();
  private readonly indexed = new Set<number>();

  /** Sets one leaf; with a subleaf the leaf answers by ECX. */
  set(leaf: number, values: Partial<CpuidLeaf>, subleaf?: number): void {
    if (subleaf !== undefined) this.indexed.add(leaf);
    this.leaves.set(leaf * 0x100 + (subleaf ?? 0), { eax: 0, ebx: 0, ecx: 0, edx: 0, ...values });
  }

  /** The leaf a guest sees for EAX = leaf, ECX = subleaf; zeros when there is none. */
  get(leaf: number, subleaf: number): Readonly<CpuidLeaf> {
    leaf >>>= 0;
    subleaf >>>= 0;
    const index = this.indexed.has(leaf) ? subleaf : 0;
    return (index < 0x100 ? this.leaves.get(leaf * 0x100 + index) : undefined) ?? ZERO;
  }

  has(feature: CpuidFeature): boolean {
    const [leaf, register, bit] = CPUID_FEATURES[feature];
    return ((this.get(leaf, 0)[register] >>> bit) & 1) === 1;
  }

  setFeature(feature: CpuidFeature, on: boolean): void {
    const [leaf, register, bit] = CPUID_FEATURES[feature];
    const values = { ...this.get(leaf, 0) };
    values[register] = (on ? values[register] | (1 << bit) : values[register] & ~(1 << bit)) >>> 0;
    this.set(leaf, values, leaf === 7 ? 0 : undefined);
  }

  /** A copy to change. */
  clone(): CpuidPolicy {
    const copy = new CpuidPolicy();
    for (const [key, values] of this.leaves) copy.leaves.set(key, { ...values });
    for (const leaf of this.indexed) copy.indexed.add(leaf);
    return copy;
  }
}

const ZERO: Readonly<CpuidLeaf> = Object.freeze({ eax: 0, ebx: 0, ecx: 0, edx: 0 });

function characters(text: string, at: number): number {
  let value = 0;
  for (let i = 3; i >= 0; i--) value = value * 256 + (at + i < text.length ? text.charCodeAt(at + i) : 0);
  return value;
}

/**
 * Vendor string. It has to be a maker's: glibc (2.33 and later) reads leaf 1 for makers that it knows only, and where libc.so is marked as
 * needing the x86-64 baseline (Debian 12) it then starts no program ("CPU ISA level is lower than required"). Errata go by family, and no
 * 64-bit processor was of family 4.
 */
export const VENDOR = "AuthenticAMD";
export const BRAND = "hookvisor software processor";

/** The policy of the bare library: `tscKhz` is what the TSC counts in a millisecond (nanoseconds: 1,000,000). */
export function defaultCpuid(tscKhz = 1_000_000): CpuidPolicy {
  const policy = new CpuidPolicy();
  policy.set(0, {
    eax: 0x16,
    ebx: characters(VENDOR, 0),
    edx: characters(VENDOR, 4),
    ecx: characters(VENDOR, 8),
  });
  // Family 4, model 1, stepping 1: as a processor that does not speculate, which kernels exempt from their mitigations.
  // EBX: CLFLUSH line 64 bytes, one logical processor
  policy.set(1, { eax: 0x0411, ebx: 0x00010800 });
  policy.set(7, {}, 0);
  policy.set(0x15, { eax: 1, ebx: 1, ecx: tscKhz * 1000 });
  policy.set(0x16, { eax: Math.round(tscKhz / 1000), ebx: Math.round(tscKhz / 1000) });
  policy.set(0x80000000, {
    eax: 0x80000008,
    ebx: characters(VENDOR, 0),
    edx: characters(VENDOR, 4),
    ecx: characters(VENDOR, 8),
  });
  policy.set(0x80000001, { eax: 0x0411 });
  for (let i = 0; i < 3; i++) {
    policy.set(0x80000002 + i, {
      eax: characters(BRAND, i * 16),
      ebx: characters(BRAND, i * 16 + 4),
      ecx: characters(BRAND, i * 16 + 8),
      edx: characters(BRAND, i * 16 + 12),
    });
  }
  // Caches, which decide how memcpy and memset copy: first level 32 KiB, 8 ways; second 4 MiB, 8 ways (code 6); none beyond. A large one
  // makes glibc use repeated string instructions, which are the fastest here, up to its size.
  policy.set(0x80000005, { ecx: 0x20080140, edx: 0x20080140 });
  policy.set(0x80000006, { ecx: 0x10006140 });
  policy.set(0x80000007, {});
  // 40 physical and 48 virtual address bits
  policy.set(0x80000008, { eax: 0x3028 });
  for (const feature of EMULATED_FEATURES) policy.setFeature(feature, true);
  return policy;
}
