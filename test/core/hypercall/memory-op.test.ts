import { describe, expect, it } from "vitest";
import {
  __HYPERVISOR,
  DOMID,
  ERRNO,
  XENFEAT,
  XENMEM,
  xen_add_to_physmap,
  xen_add_to_physmap_batch,
  xen_memory_domain,
  xen_memory_exchange,
  xen_memory_reservation,
  xen_remove_from_physmap,
} from "../../../core/abi/index.ts";
import { FAKE_ABIS, type Guest, makeWorld } from "../../support/fake-arch.ts";

const CALL = __HYPERVISOR.memory_op;

/** Writes an array of words. */
function words(guest: Guest, values: readonly number[]): number {
  const { wordBytes, endian } = guest.abi;
  const at = guest.allocate(values.length * wordBytes);
  const view = new DataView(new ArrayBuffer(values.length * wordBytes));
  for (const [i, value] of values.entries())
    view.setUint32(i * wordBytes + (wordBytes === 8 && endian === "big" ? 4 : 0), value, endian === "little");
  guest.poke(at, new Uint8Array(view.buffer));
  return at;
}

function word(guest: Guest, at: number, index: number): number {
  const { wordBytes, endian } = guest.abi;
  const view = guest.peek(at + index * wordBytes, wordBytes);
  return view.getUint32(wordBytes === 8 && endian === "big" ? 4 : 0, endian === "little");
}

function reserve(guest: Guest, command: number, list: number, count: number, order = 0, domid: number = DOMID.SELF) {
  const layout = xen_memory_reservation.at(guest.abi);
  const at = guest.allocate(layout.size);
  const view = new DataView(new ArrayBuffer(layout.size));
  layout.write(view, 0, { extent_start: list, nr_extents: count, extent_order: order, domid });
  guest.poke(at, new Uint8Array(view.buffer));
  return guest.call(CALL, command, at);
}

function ask(guest: Guest, command: number, domid: number = DOMID.SELF): number {
  const layout = xen_memory_domain.at(guest.abi);
  const at = guest.allocate(layout.size);
  const view = new DataView(new ArrayBuffer(layout.size));
  layout.write(view, 0, { domid });
  guest.poke(at, new Uint8Array(view.buffer));
  return guest.call(CALL, command, at);
}

describe.each(FAKE_ABIS)("memory_op of $name", (abi) => {
  it.each([true, false])("gives frames back and takes others (translated %s)", (translated) => {
    const { machine, guests } = makeWorld({ abi, translated });
    const [a] = guests as [Guest];
    expect(ask(a, XENMEM.current_reservation)).toBe(32);
    expect(ask(a, XENMEM.maximum_reservation)).toBe(32);
    const gone = [a.gfn(20), a.gfn(21)];
    const freed = [a.mfn(20), a.mfn(21)];
    const list = words(a, gone);
    expect(reserve(a, XENMEM.decrease_reservation, list, 2)).toBe(2);
    expect(ask(a, XENMEM.current_reservation)).toBe(30);
    expect(machine.frames.owns(1, freed[0]!)).toBe(false);
    expect(reserve(a, XENMEM.decrease_reservation, list, 2)).toBe(0);
    const back = words(a, [300, 301, 302]);
    expect(reserve(a, XENMEM.populate_physmap, back, 3)).toBe(2);
    const mfn = word(a, back, 0);
    expect(machine.frames.owns(1, mfn)).toBe(true);
    expect(machine.frames.gfnOf[mfn]).toBe(300);
    expect(ask(a, XENMEM.current_reservation)).toBe(32);
    expect(ask(a, XENMEM.maximum_ram_page)).toBe(machine.frames.count);
  });

  it("tells no machine frame to a guest whose features say that its map is translated", () => {
    const { machine, guests } = makeWorld({ abi, translated: true });
    const [a] = guests as [Guest];
    Object.assign(a.arch, { features: () => 1 << XENFEAT.auto_translated_physmap });
    expect(reserve(a, XENMEM.decrease_reservation, words(a, [a.gfn(20), a.gfn(21)]), 2)).toBe(2);
    const back = words(a, [300, 301]);
    expect(reserve(a, XENMEM.populate_physmap, back, 1)).toBe(1);
    expect(reserve(a, XENMEM.increase_reservation, back, 1)).toBe(1);
    expect([word(a, back, 0), word(a, back, 1)]).toEqual([300, 301]);
    expect(machine.frames.owns(1, a.arch.gfnToMfn(a.domain, 300))).toBe(true);
  });

  it("exchanges frames for contiguous ones", () => {
    const { machine, guests } = makeWorld({ abi });
    const [a] = guests as [Guest];
    const old = [20, 21, 22, 23].map((page) => a.mfn(page));
    const input = words(a, old);
    const output = words(a, [500]);
    const layout = xen_memory_exchange.at(abi);
    const at = a.allocate(layout.size);
    const view = new DataView(new ArrayBuffer(layout.size));
    const exchange = (change: object = {}): number => {
      layout.clear(view, 0);
      layout.write(view, 0, {
        in: { extent_start: input, nr_extents: 4, extent_order: 0, domid: DOMID.SELF },
        out: { extent_start: output, nr_extents: 1, extent_order: 2, domid: DOMID.SELF },
        ...change,
      });
      a.poke(at, new Uint8Array(view.buffer));
      return a.call(CALL, XENMEM.exchange, at);
    };
    const out = { extent_start: output, nr_extents: 1, extent_order: 2, domid: DOMID.SELF };
    expect(exchange({ out: { ...out, nr_extents: 2 } })).toBe(-ERRNO.EINVAL);
    expect(exchange({ out: { ...out, domid: 1 } })).toBe(-ERRNO.EINVAL);
    expect(exchange({ out: { ...out, nr_extents: 4, extent_order: 10 } })).toBe(-ERRNO.EPERM);
    machine.frames.getRef(old[3]!, 1);
    expect(exchange()).toBe(-ERRNO.EINVAL);
    expect(layout.getNumber(a.peek(at, layout.size), 0, "nr_exchanged")).toBe(0);
    machine.frames.putRef(old[3]!);
    expect(exchange()).toBe(0);
    expect(layout.getNumber(a.peek(at, layout.size), 0, "nr_exchanged")).toBe(4);
    const first = word(a, output, 0);
    expect(first % 4).toBe(0);
    for (let i = 0; i < 4; i++) {
      expect(machine.frames.owns(1, first + i)).toBe(true);
      expect(machine.frames.gfnOf[first + i]).toBe(500 + i);
      expect(machine.frames.owns(1, old[i]!)).toBe(false);
    }
    expect(ask(a, XENMEM.current_reservation)).toBe(32);
  });

  it("maps the shared info page and grant frames where a translated guest wants them", () => {
    const { guests, machine } = makeWorld({ abi, translated: true });
    const [a] = guests as [Guest];
    const layout = xen_add_to_physmap.at(abi);
    const at = a.allocate(layout.size);
    const view = new DataView(new ArrayBuffer(layout.size));
    const add = (values: object): number => {
      layout.clear(view, 0);
      layout.write(view, 0, { domid: DOMID.SELF, ...values });
      a.poke(at, new Uint8Array(view.buffer));
      return a.call(CALL, XENMEM.add_to_physmap, at);
    };
    expect(add({ space: 0, idx: 0, gpfn: 400 })).toBe(0);
    expect(a.mfn(400)).toBe(a.domain.sharedInfo);
    expect(add({ space: 0, idx: 1, gpfn: 400 })).toBe(-ERRNO.EINVAL);
    expect(add({ space: 1, idx: 2, gpfn: 401 })).toBe(0);
    expect(a.mfn(401)).toBe(a.domain.grants.frameAt(2));
    expect(add({ space: 1, idx: 64, gpfn: 402 })).toBe(-ERRNO.EINVAL);
    expect(add({ space: 4, idx: 0, gpfn: 402 })).toBe(-ERRNO.ENOSYS);
    expect(add({ domid: 9, space: 0, gpfn: 402 })).toBe(-ERRNO.ESRCH);
    const mfn = a.mfn(15);
    expect(add({ space: 2, idx: 15, gpfn: 403 })).toBe(0);
    expect([a.mfn(15), a.mfn(403)]).toEqual([-1, mfn]);
    expect(add({ space: 3, size: 3, idx: 16, gpfn: 410 })).toBe(0);
    expect(a.mfn(412)).toBeGreaterThan(0);

    const remove = xen_remove_from_physmap.at(abi);
    const removeView = new DataView(new ArrayBuffer(remove.size));
    remove.write(removeView, 0, { domid: DOMID.SELF, gpfn: 403 });
    a.poke(at, new Uint8Array(removeView.buffer));
    expect(a.call(CALL, XENMEM.remove_from_physmap, at)).toBe(0);
    expect(a.call(CALL, XENMEM.remove_from_physmap, at)).toBe(-ERRNO.ENOENT);
    expect(machine.frames.owns(1, mfn)).toBe(true);

    const batch = xen_add_to_physmap_batch.at(abi);
    const batchView = new DataView(new ArrayBuffer(batch.size));
    const errs = a.allocate(8);
    const lists = { idxs: words(a, [3, 99]), gpfns: words(a, [420, 421]), errs };
    batch.write(batchView, 0, { domid: DOMID.SELF, space: 1, size: 2, ...lists });
    const batchAt = a.allocate(batch.size);
    a.poke(batchAt, new Uint8Array(batchView.buffer));
    expect(a.call(CALL, XENMEM.add_to_physmap_batch, batchAt)).toBe(0);
    const results = a.peek(errs, 8);
    const little = abi.endian === "little";
    expect([results.getInt32(0, little), results.getInt32(4, little)]).toEqual([0, -ERRNO.EINVAL]);
  });
});

describe("what memory_op refuses", () => {
  it("gives back no special frame, and no frame twice, though it may be in use", () => {
    const { machine, guests } = makeWorld();
    const [a] = guests as [Guest];
    a.domain.grants.grow(1);
    const mfn = a.mfn(20);
    const refuse = (frame: number): void =>
      expect(reserve(a, XENMEM.decrease_reservation, words(a, [frame]), 1)).toBe(0);
    refuse(a.domain.sharedInfo);
    refuse(a.domain.grants.frameAt(0));
    refuse(0x7fff_ffff);
    machine.frames.getRef(mfn, 1);
    expect(reserve(a, XENMEM.decrease_reservation, words(a, [mfn]), 1)).toBe(1);
    expect(ask(a, XENMEM.current_reservation)).toBe(32);
    refuse(mfn);
    machine.frames.putRef(mfn);
    expect(ask(a, XENMEM.current_reservation)).toBe(31);
    expect(machine.frames.owns(1, mfn)).toBe(false);
  });

  it("neither other domains nor orders nor counts that are too large", () => {
    const { guests } = makeWorld({ guests: 2 });
    const [a] = guests as [Guest];
    const list = words(a, [1]);
    expect(reserve(a, XENMEM.populate_physmap, list, 1, 10)).toBe(0);
    expect(reserve(a, XENMEM.populate_physmap, list, 1, 0, 2)).toBe(0);
    expect(reserve(a, XENMEM.increase_reservation, list, 2 ** 26)).toBe(0);
    expect(reserve(a, XENMEM.increase_reservation, list, 1)).toBe(0);
    expect(ask(a, XENMEM.current_reservation, 2)).toBe(-ERRNO.EPERM);
    expect(ask(a, XENMEM.current_reservation, 7)).toBe(-ERRNO.ESRCH);
    expect(a.call(CALL, XENMEM.current_reservation, 0x7000_0000)).toBe(-ERRNO.EFAULT);
    expect(ask(a, XENMEM.claim_pages)).toBe(-ERRNO.EPERM);
    expect(ask(a, XENMEM.sharing_op)).toBe(-ERRNO.ENOSYS);
  });

  it("continues a long reservation where it was", () => {
    const { machine, guests } = makeWorld({ memoryMiB: 16, frames: 64 });
    const [a] = guests as [Guest];
    a.domain.maxFrames = 3000;
    const list = a.allocate(2500 * 8);
    expect(reserve(a, XENMEM.increase_reservation, list, 2500)).toBe(2500);
    expect(a.continued).toBeGreaterThan(0);
    expect(machine.frames.owns(1, word(a, list, 2499))).toBe(true);
    expect(new Set(Array.from({ length: 2500 }, (_, i) => word(a, list, i))).size).toBe(2500);
  });
});
