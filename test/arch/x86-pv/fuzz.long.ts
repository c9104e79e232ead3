/**
 * Hostile kernels by the thousand: random hypercalls about memory, random code, and damaged images of real kernels. The seed of the
 * first is HOOKVISOR_SEED, or 1; a failure names its own.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ImageError } from "hookvisor";
import { expect, it } from "vitest";
import { attackByCode, checksum, mutated, randomKernel } from "./fuzz-code.ts";
import { attackMemory, pvDomain, pvMachine, Random } from "./fuzz-mm.ts";

const IMAGES = join(import.meta.dirname, "..", "..", "guests", "images");
const FIRST = Number(process.env["HOOKVISOR_SEED"] ?? 1);
/** Host milliseconds that one hostile domain may take, from its creation to its end, on a busy host. */
const PATIENCE = 10_000;

function image(name: string): Uint8Array {
  return readFileSync(join(IMAGES, name));
}

/** Runs `attack` for many seeds beside a domain that sleeps; its memory and the machine's frames must be as before. */
async function campaign(count: number, attack: (seed: number) => (hypervisor: Hyper) => Promise<void>): Promise<void> {
  const hypervisor = await pvMachine(64);
  const bystander = await pvDomain(hypervisor, "bystander", image("hello.elf"));
  const { frames } = hypervisor.machine;
  const free = frames.free;
  const sum = checksum(hypervisor, bystander);
  for (let seed = FIRST; seed < FIRST + count; seed++) {
    const start = performance.now();
    await attack(seed)(hypervisor);
    expect(performance.now() - start, `milliseconds of seed ${seed}`).toBeLessThan(PATIENCE);
    expect(frames.free, `free frames after seed ${seed}`).toBe(free);
    if (seed % 20 === 0)
      expect(checksum(hypervisor, bystander), `another domain's memory after seed ${seed}`).toBe(sum);
  }
  expect(checksum(hypervisor, bystander)).toBe(sum);
  await hypervisor.shutdown();
}

type Hyper = Awaited<ReturnType<typeof pvMachine>>;

it("random hypercalls about memory", () =>
  campaign(400, (seed) => async (hypervisor) => {
    await attackMemory(hypervisor, seed, 800, 25);
  }));

it("random code", () =>
  campaign(1000, (seed) => async (hypervisor) => {
    const random = new Random(seed);
    await attackByCode(hypervisor, randomKernel(random), random, 300_000);
  }));

it("damaged images of kernels that run", () => {
  const images = readdirSync(IMAGES)
    .filter((name) => name.endsWith(".elf"))
    .map(image);
  return campaign(1000, (seed) => async (hypervisor) => {
    const random = new Random(seed);
    try {
      await attackByCode(hypervisor, mutated(random, random.of(images)), random, 1_000_000, 12);
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
    }
  });
});
