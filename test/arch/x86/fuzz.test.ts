/** Random bytes as code: nothing throws, and both tiers end in the same state. Instructions alone and in runs. */
import { expect, it } from "vitest";
import { defaultCpuid, EMULATED_FEATURES, VENDOR } from "../../../arch/x86/cpuid.ts";
import { Random, randomCase, randomFx } from "./generate.ts";
import { BareGuest, type Outcome } from "./guest.ts";

const digest = (o: Outcome): string =>
  [o.vector, o.rip, o.error, o.address, o.rflags, ...o.gpr].map((x) => x.toString(16)).join(" ") +
  Buffer.from(o.fx).toString("hex") +
  Buffer.from(o.scratch).toString("base64");

it("random code neither throws nor differs between the tiers", () => {
  const seed = Date.now() & 0x7fffffff;
  const random = new Random(seed);
  const tier0 = new BareGuest();
  const oracle = new BareGuest("oracle");
  for (let n = 0; n < 2500; n++) {
    const bytes = Array.from({ length: 40 }, () => random.below(256));
    if (n % 3 === 0) bytes[0] = 0x0f;
    const test = { ...randomCase(random, bytes), fx: randomFx(random, n % 2 === 0) };
    const [before, beforeOracle] = [tier0.vcpu.retired, oracle.vcpu.retired];
    const got = tier0.run(test, 1 + random.below(40));
    if (n % 5 === 0 && got.vector >= 0) {
      const hex = Buffer.from(bytes).toString("hex");
      expect(digest(got), `seed ${seed}, ${hex}`).toBe(digest(oracle.run(test)));
      expect(tier0.vcpu.retired - before, `seed ${seed}, ${hex}`).toBe(oracle.vcpu.retired - beforeOracle);
    }
  }
});

it("the CPUID table says what is emulated, and can be changed", () => {
  const policy = defaultCpuid();
  for (const feature of EMULATED_FEATURES) expect(policy.has(feature)).toBe(true);
  expect(policy.has("apic")).toBe(false);
  const { ebx, edx, ecx } = policy.get(0, 0);
  expect(Buffer.from(Uint32Array.of(ebx, edx, ecx).buffer).toString()).toBe(VENDOR);
  const copy = policy.clone();
  copy.setFeature("apic", true);
  copy.setFeature("sse", false);
  expect([copy.has("apic"), copy.has("sse"), policy.has("sse")]).toEqual([true, false, true]);
  expect(policy.get(7, 1)).toEqual({ eax: 0, ebx: 0, ecx: 0, edx: 0 });
  expect(policy.get(0x40000000, 0)).toEqual({ eax: 0, ebx: 0, ecx: 0, edx: 0 });
});
