/**
 * What one domain leaves behind, and what one can do to the host's time: translations of frames that go to somebody else, code pages
 * with many names, frames that go while TLBs hold them.
 */
import { ConfigError, Hypervisor, RunState, runStateTime } from "hookvisor";
import { expect, it } from "vitest";
import { setKernelRoot } from "../../../arch/x86-pv/mm/roots.ts";
import x86Pv from "../../../arch/x86-pv/plugin.ts";
import { NodeHost } from "../../../core/node/host-services.ts";
import credit from "../../../plugins/scheduler-credit/plugin.ts";
import { Bench, SELF } from "./fake-cpu.ts";
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

it("two domains that send each other events without end take no time from a third", async () => {
  const hypervisor = new Hypervisor({
    plugins: [x86Pv, credit].map((plugin) => ({ plugin, source: plugin.name })),
    services: new NodeHost(),
  });
  await hypervisor.boot({ memoryMiB: 32, cpuMhz: 20, scheduler: "credit" });
  // for (;;) event_channel_op(EVTCHNOP_send, DATA)
  const send = [0xb8, ...dword(32), 0xbf, ...dword(4), 0xbe, ...dword(DATA), 0x0f, 0x05];
  const storm = kernel([...send, 0xeb, 256 - send.length - 2]);
  const a = await pvDomain(hypervisor, "a", storm);
  const b = await pvDomain(hypervisor, "b", storm);
  const c = await pvDomain(hypervisor, "c", kernel([0xeb, 0xfe]));
  const port = a.events.allocUnbound(b.id);
  const other = b.events.bindInterdomain(a.id, port);
  for (const [domain, mine] of [
    [a, port],
    [b, other],
  ] as const)
    domain.arch!.copyToGuest(domain.vcpus[0]!, DATA, 0, Uint8Array.from(dword(mine)), 4);
  for (const domain of [a, b, c]) hypervisor.unpause(domain);
  await hypervisor.run({ until: 1e9 });
  expect([a.events.isPending(port), b.events.isPending(other)]).toEqual([true, true]);
  const times = [a, b, c].map(({ vcpus }) => runStateTime(vcpus[0]!, RunState.running, hypervisor.machine.now));
  for (const time of times) expect(time / 1e9).toBeCloseTo(1 / 3, 1);
  await hypervisor.shutdown();
});

it("frame 0 is nobody's root: where a root is kept, 0 says that there is none", () => {
  const b = new Bench();
  b.frames.setOwner(0, SELF);
  b.frames.page(0).fill(0);
  const refs = b.frames.refs[0];
  expect(setKernelRoot(b.v, 0, false)).toBe(-22);
  expect(b.frames.refs[0]).toBe(refs);
});

it("a machine without room for another vCPU says so, and keeps nothing of the domain", async () => {
  const hypervisor = await pvMachine(32);
  const image = kernel([0xeb, 0xfe]);
  for (const name of ["a", "b"]) await pvDomain(hypervisor, name, image, 64);
  const { free } = hypervisor.machine.frames;
  const third = pvDomain(hypervisor, "c", image, 1);
  await expect(third).rejects.toBeInstanceOf(ConfigError);
  await expect(third).rejects.toThrow("128 vCPUs");
  expect(hypervisor.machine.frames.free).toBe(free);
  expect(hypervisor.domains.map((domain) => domain.name)).toEqual(["Domain-0", "a", "b"]);
  await hypervisor.shutdown();
});
