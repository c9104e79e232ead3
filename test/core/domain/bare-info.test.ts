/** Shared info of guests whose arch_vcpu_info and arch_shared_info are empty (arch-arm.h, arch-riscv.h). */
import { expect, it } from "vitest";
import { __HYPERVISOR, XENMEM, xen_memory_domain } from "../../../core/abi/index.ts";
import { FAKE_ABIS, makeWorld } from "../../support/fake-arch.ts";

it("has the clock right behind the selector, and no room between", () => {
  const abi = { ...FAKE_ABIS[0]!, name: "fake-bare", legacyVcpus: 1, bareInfo: true } as const;
  const { machine, guests, timers } = makeWorld({ abi });
  const { domain, vcpu } = guests[0]!;
  const shared = domain.shared!;
  // u8 pending, u8 mask, 8 bytes of selector at 8, 32 bytes of vcpu_time_info.
  expect([shared.vcpuInfoSize, shared.timeOffset]).toEqual([48, 16]);
  const base = domain.sharedInfo * 4096;
  expect(vcpu.infoAddress).toBe(base);
  shared.setPending(65);
  expect(machine.frames.bytes[base + 48 + 8]).toBe(2);
  timers.writeWallclock(vcpu);
  expect(machine.frames.view.getUint32(base + 48 + 2 * 512 + 4, true)).toBe(1_767_225_600);
  expect(shared.maxPfn()).toBe(0);
});

it("lets the arch say what the highest gfn is", () => {
  const { guests } = makeWorld({ translated: true });
  const guest = guests[0]!;
  const at = guest.allocate(xen_memory_domain.at(guest.abi).size);
  guest.poke(at, Uint8Array.of(0xf0, 0x7f));
  Object.assign(guest.domain.arch!, { maximumGfn: () => 0x12345 });
  expect(guest.call(__HYPERVISOR.memory_op, XENMEM.maximum_gpfn, at)).toBe(0x12345);
});
