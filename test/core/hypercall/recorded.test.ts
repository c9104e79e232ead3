/** The first call of each kind that GRUB and Linux made as 64-bit PV guests on Xen 4.17, with the bytes behind the pointer, as recorded. */
import { expect, it } from "vitest";
import { __HYPERVISOR, ERRNO, grant_entry_v1 } from "../../../core/abi/index.ts";
import { FRAME_SIZE } from "../../../core/machine/frames.ts";
import { FAKE_ABIS, makeWorld } from "../../support/fake-arch.ts";

/** Hypercall, command, structure in hex, further arguments, answer. */
const RECORDED = [
  ["grant_table_op", 8, "01000000", 1, 0],
  // dom SELF, one frame; the list's pointer (0x1000 here) was 0x410000.
  ["grant_table_op", 2, "f07f0000010000000000000000000000001000000000", 1, 0],
  ["event_channel_op", 6, "f07f000000000000", 0, 0],
  ["event_channel_op", 4, "010000000b00000000000000", 0, 0],
  ["grant_table_op", 3, "f07f0000f07f00000300000033000000", 1, -ERRNO.ENOSYS],
  ["xen_version", 6, "000000000000000051820583ffffffff", 0, 0],
  // Frame 0x583ab was the guest's there.
  ["event_channel_op", 11, "ab83050000000000", 0, -ERRNO.EINVAL],
] as const;

it("answers what GRUB and Linux ask first", () => {
  const { guests } = makeWorld({ abi: FAKE_ABIS[0]! });
  const guest = guests[0]!;
  // The toolstack has allocated the ports of XenStore and console.
  guest.domain.events.allocUnbound(0);
  guest.domain.events.allocUnbound(0);
  guest.domain.grants.grantToBackend(1, guest.gfn(3));
  for (const [name, command, hex, count, answer] of RECORDED) {
    const at = 2 * FRAME_SIZE;
    guest.poke(at, Uint8Array.from(Buffer.from(hex.padEnd(64, "0"), "hex")));
    expect([name, guest.call(__HYPERVISOR[name], command, at, count)]).toEqual([name, answer]);
  }
  expect(guest.domain.events.status(3)).toMatchObject({ state: 1, remoteId: 0 });
  const frame = guest.peek(FRAME_SIZE, 8).getUint32(0, true);
  expect(frame).toBe(guest.domain.grants.frameAt(0));
  const entry = grant_entry_v1.at(guest.abi).read(guest.machine.frames.view, frame * FRAME_SIZE + 8);
  expect(entry).toMatchObject({ flags: 1, domid: 0, frame: guest.gfn(3) });
});
