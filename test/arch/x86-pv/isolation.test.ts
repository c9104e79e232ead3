/**
 * What one domain leaves behind, and what one can do to the host's time: translations of frames that go to somebody else, code pages
 * with many names, frames that go while TLBs hold them.
 */
import { expect, it } from "vitest";
import { pvDomain, pvMachine } from "./fuzz-mm.ts";
import { makeElf } from "./make-elf.ts";

const DATA = 0x4000;
const CODE = 0x5000;
const END = 0x6000;

const dword = (value: number): number[] => [value & 255, (value >> 8) & 255, (value >> 16) & 255, value >>> 24];

/** A kernel: jumps to CODE with rax at data of its own; at END it shuts down for the reason at DATA. */
function kernel(code: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(0x7000);
  bytes.set([0xb8, ...dword(DATA + 0x100), 0xe9, ...dword(CODE - 10)]);
  bytes.set(code, CODE);
  // mov edi, 2; mov esi, DATA; mov eax, 29; syscall
  bytes.set([0xbf, ...dword(2), 0xbe, ...dword(DATA), 0xb8, ...dword(29), 0x0f, 0x05], END);
  return makeElf({ loads: [{ physical: 0n, bytes }], entry: 0n });
}

it("a domain runs its own code, whatever ran in its frames before", async () => {
  // So little memory that each domain gets the frames of the one before, after a few in the same order.
  const hypervisor = await pvMachine(9);
  const reasons: unknown[] = [];
  const empty = kernel([]);
  // mov dword [DATA], 3; jmp END
  const marked = kernel([0xc7, 0x04, 0x25, ...dword(DATA), 3, 0, 0, 0, 0xe9, ...dword(END - CODE - 16)]);
  for (const image of [empty, empty, empty, empty, empty, marked]) {
    const domain = await pvDomain(hypervisor, "one", image);
    hypervisor.unpause(domain);
    await hypervisor.run({ done: () => domain.shutdownReason !== null });
    reasons.push(domain.shutdownReason);
    await hypervisor.destroyDomain(domain);
  }
  expect(reasons).toEqual([0, 0, 0, 0, 0, 3]);
  await hypervisor.shutdown();
});
