/** Hostile kernels, the short form: what must hold is in fuzz-mm.ts and fuzz-code.ts, thousands more are in fuzz.long.ts. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Domain, Hypervisor } from "hookvisor";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { attackByCode, checksum, randomKernel } from "./fuzz-code.ts";
import { attackMemory, pvDomain, pvMachine, Random } from "./fuzz-mm.ts";

const HELLO = readFileSync(join(import.meta.dirname, "..", "..", "guests", "images", "hello.elf"));

describe("hostile kernels", () => {
  let hypervisor: Hypervisor;
  let bystander: Domain;
  let free: number;
  let sum: number;

  beforeAll(async () => {
    hypervisor = await pvMachine(48);
    bystander = await pvDomain(hypervisor, "bystander", HELLO);
    free = hypervisor.machine.frames.free;
    sum = checksum(hypervisor, bystander);
  });
  afterAll(() => hypervisor.shutdown());

  it("reach no frame that is not theirs, whatever hypercalls they make: every count and TLB entry is as a recount has it", async () => {
    let succeeded = 0;
    for (let seed = 1; seed <= 12; seed++) succeeded += await attackMemory(hypervisor, seed, 500, 25);
    expect(succeeded).toBeGreaterThan(1000);
    expect(hypervisor.machine.frames.free).toBe(free);
    expect(checksum(hypervisor, bystander)).toBe(sum);
  });

  it("of random code crash at most themselves", async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const random = new Random(seed);
      await attackByCode(hypervisor, randomKernel(random), random, 100_000);
      expect(hypervisor.machine.frames.free, `seed ${seed}`).toBe(free);
    }
    expect(checksum(hypervisor, bystander)).toBe(sum);
  });
});
