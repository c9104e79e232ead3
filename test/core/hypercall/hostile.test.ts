/** Whatever a guest passes in any hypercall: no exception, no frame lost, nothing left after its destruction. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FRAME_SIZE } from "../../../core/machine/frames.ts";
import { FAKE_ABIS, makeWorld } from "../../support/fake-arch.ts";

/** Numbers that structures and registers are made of: small ones, addresses, frame numbers, edges. */
const value = fc.oneof(
  fc.nat(16),
  fc.nat(40),
  fc.constantFrom(0x7ff0, 0x7ff1, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff, -1, 2 ** 40, 2 ** 53),
  fc.nat(31).map((page) => page * FRAME_SIZE),
  fc.nat(0x20000),
);

describe.each(FAKE_ABIS)("hostile hypercalls of $name", (abi) => {
  it.each([true, false])("translated %s", (translated) => {
    const call = fc.record({
      by: fc.nat(1),
      nr: fc.oneof(fc.constantFrom(12, 20, 24, 29, 32, 13), fc.nat(63)),
      command: fc.nat(30),
      memory: fc.array(value, { minLength: 8, maxLength: 24 }),
      args: fc.array(value, { maxLength: 4 }),
      pointer: fc.constantFrom(1, 2, 0),
    });
    fc.assert(
      fc.property(fc.array(call, { minLength: 1, maxLength: 25 }), (calls) => {
        const world = makeWorld({ abi, translated, guests: 2, vcpus: 2, frames: 12, memoryMiB: 1 });
        const { machine, guests } = world;
        for (const guest of guests) guest.domain.grants.grow(1);
        let charged = 0;
        machine.hooks.hypercall.tap("time", () => {
          charged++;
        });
        for (const { by, nr, command, memory, args, pointer } of calls) {
          const guest = guests[by]!;
          const { vcpu } = guest;
          // Structures lie in page 1, which the guest may since have given away.
          const bytes = new DataView(new ArrayBuffer(memory.length * 4));
          for (const [i, number] of memory.entries()) bytes.setUint32(i * 4, number, abi.endian === "little");
          guest.arch.copyToGuest(vcpu, FRAME_SIZE, 0, new Uint8Array(bytes.buffer), bytes.byteLength);
          const all = [command, ...args];
          all[pointer] = FRAME_SIZE;
          if (nr === 20) all[2] = (args[0] ?? 1) % 4;
          guest.call(nr, ...all.map((n) => n ?? 0));
          vcpu.pauseFlags = 0;
        }
        expect(charged).toBeGreaterThanOrEqual(calls.length);
        machine.runPosted();
        for (const guest of guests) world.destroy(guest);
        for (const guest of guests) expect(machine.frames.ownedBy(guest.domain.id)).toBe(0);
        expect(machine.frames.free).toBe(machine.frames.count);
        expect(machine.frames.typeCount.every((count) => count === 0)).toBe(true);
        expect(machine.timers.next).toBe(Infinity);
      }),
      { numRuns: 60 },
    );
  });
});
