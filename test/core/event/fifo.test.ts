/** The FIFO ABI of event channels, consumed as a guest's kernel does. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ERRNO, EVTCHN_FIFO, VIRQ } from "../../../core/abi/index.ts";
import type { GuestAbi } from "../../../core/architecture/guest-abi.ts";
import { PauseFlag } from "../../../core/domain/vcpu.ts";
import { FRAME_SIZE } from "../../../core/machine/frames.ts";
import { FAKE_ABIS, makeWorld, type World } from "../../support/fake-arch.ts";
import { FifoGuest } from "./fifo-guest.ts";

interface Setup {
  readonly world: World;
  readonly fifo: FifoGuest;
}

/** A guest with control blocks (page 20 + vCPU) and the first words (page 10); ports 1.. are IPIs, one a vCPU in turn. */
function setUp(abi: GuestAbi, vcpus = 1, ports = 0): Setup {
  const world = makeWorld({ abi, vcpus });
  const fifo = new FifoGuest(world.guests[0]!);
  const { domain } = fifo.guest;
  for (let v = 0; v < vcpus; v++) expect(fifo.initControl(v, 20 + v, 8 * v)).toEqual({ result: 0, linkBits: 17 });
  expect(fifo.expand(10)).toBe(0);
  for (let i = 0; i < ports; i++) {
    const port = domain.events.bindIpi(i % vcpus);
    expect(port).toBe(i + 1);
    fifo.unmask(port);
  }
  return { world, fifo };
}

const ports = (taken: readonly { port: number }[]): number[] => taken.map((t) => t.port);

describe.each(FAKE_ABIS)("FIFO event channels of $name", (abi) => {
  it("delivers in the order of sending, once, and wakes the vCPU once", () => {
    const { world, fifo } = setUp(abi, 1, 5);
    const { domain } = fifo.guest;
    const [vcpu] = domain.vcpus;
    world.machine.control.setFlag(vcpu!, PauseFlag.blocked);
    for (const port of [3, 1, 5, 3, 2, 1]) expect(domain.events.send(port)).toBe(0);
    expect(vcpu!.runnable).toBe(true);
    expect(domain.shared!.upcallPending(vcpu!)).toBe(true);
    expect([1, 2, 3, 4].map((port) => domain.events.isPending(port))).toEqual([true, true, true, false]);
    expect(domain.shared!.isPending(3)).toBe(false);
    expect(ports(fifo.consume(0))).toEqual([3, 1, 5, 2]);
    expect(fifo.consume(0)).toEqual([]);
    domain.events.send(2);
    expect(ports(fifo.consume(0))).toEqual([2]);
  });

  it("serves higher priorities first", () => {
    const { fifo } = setUp(abi, 1, 6);
    const { events } = fifo.guest.domain;
    expect(events.setPriority(4, 0)).toBe(0);
    expect(events.setPriority(5, 15)).toBe(0);
    expect(events.setPriority(5, 16)).toBe(-ERRNO.EINVAL);
    for (const port of [5, 1, 4, 2]) events.send(port);
    expect(fifo.consume(0).map((t) => [t.port, t.priority])).toEqual([
      [4, 0],
      [1, EVTCHN_FIFO.PRIORITY_DEFAULT],
      [2, EVTCHN_FIFO.PRIORITY_DEFAULT],
      [5, 15],
    ]);
  });

  it("keeps a masked event off the lists until it is unmasked", () => {
    const { fifo } = setUp(abi, 1, 2);
    const { events } = fifo.guest.domain;
    fifo.mask(1);
    events.send(1);
    events.send(2);
    expect(fifo.isPending(1)).toBe(true);
    expect(ports(fifo.consume(0))).toEqual([2]);
    fifo.unmask(1);
    expect(ports(fifo.consume(0))).toEqual([1]);
    expect(events.unmask(70_000)).toBe(-ERRNO.EINVAL);
  });

  it("raises what was pending in the 2-level ABI, and what came before the words", () => {
    const world = makeWorld({ abi });
    const fifo = new FifoGuest(world.guests[0]!);
    const { events } = fifo.guest.domain;
    for (let port = 1; port <= 3; port++) events.bindIpi(0);
    events.send(1);
    expect(fifo.initControl(0, 20, 0).result).toBe(0);
    events.send(3);
    expect(events.isPending(1)).toBe(false);
    expect(fifo.expand(10)).toBe(0);
    expect([1, 2, 3].map((port) => fifo.isPending(port))).toEqual([true, false, true]);
    for (let port = 1; port <= 3; port++) fifo.unmask(port);
    expect(ports(fifo.consume(0))).toEqual([1, 3]);
  });

  it("has ports beyond those of the 2-level ABI, and gives none twice while its event is on a list", () => {
    const { fifo } = setUp(abi, 1, 3);
    const { events } = fifo.guest.domain;
    expect(events.limit).toBe(EVTCHN_FIFO.NR_CHANNELS);
    events.send(2);
    events.close(2);
    expect(fifo.isPending(2)).toBe(false);
    expect(events.bindIpi(0)).toBe(4);
    expect(fifo.consume(0)).toEqual([]);
    expect(events.bindIpi(0)).toBe(2);
    for (let port = 5; port < 4100; port++) expect(events.bindIpi(0)).toBe(port);
    // Ports without a word wait for one.
    events.send(4099);
    expect([11, 12, 13, 14].map((page) => fifo.expand(page))).toEqual([0, 0, 0, 0]);
    fifo.unmask(4099);
    expect(ports(fifo.consume(0))).toEqual([4099]);
  });

  it("moves a port between vCPUs and lists without losing its event", () => {
    const { world, fifo } = setUp(abi, 2, 2);
    const { domain } = fifo.guest;
    const { events } = domain;
    const port = events.allocUnbound(0);
    fifo.unmask(port);
    const backend = world.dom0.events.bindBackend(domain, port, () => {});
    backend.notify();
    expect(events.bindVcpu(port, 1)).toBe(0);
    events.setPriority(port, 3);
    backend.notify();
    // The first event is where it was put; the next one goes to the new place.
    expect(fifo.consume(1)).toEqual([]);
    expect(fifo.consume(0)).toEqual([{ port, vcpu: 0, priority: 7 }]);
    backend.notify();
    events.send(1);
    expect(fifo.consume(0)).toEqual([{ port: 1, vcpu: 0, priority: 7 }]);
    expect(fifo.consume(1)).toEqual([{ port, vcpu: 1, priority: 3 }]);
  });

  it("ends a poll, even of a masked port", () => {
    const { world, fifo } = setUp(abi, 1, 1);
    const [vcpu] = fifo.guest.domain.vcpus;
    fifo.mask(1);
    world.machine.control.setFlag(vcpu!, PauseFlag.polling);
    vcpu!.pollPort = 1;
    fifo.guest.domain.events.send(1);
    expect(vcpu!.runnable).toBe(true);
    expect(fifo.guest.domain.shared!.upcallPending(vcpu!)).toBe(false);
  });

  it("answers Xen's errors", () => {
    const world = makeWorld({ abi });
    const fifo = new FifoGuest(world.guests[0]!);
    const { events } = fifo.guest.domain;
    expect(fifo.expand(10)).toBe(-ERRNO.EOPNOTSUPP);
    expect(events.setPriority(1, 3)).toBe(-ERRNO.ENOSYS);
    expect(fifo.initControl(1, 20, 0).result).toBe(-ERRNO.ENOENT);
    expect(fifo.initControl(0, 20, 4).result).toBe(-ERRNO.EINVAL);
    expect(fifo.initControl(0, 20, FRAME_SIZE - 64).result).toBe(-ERRNO.EINVAL);
    expect(fifo.initControl(0, 99, 0).result).toBe(-ERRNO.EINVAL);
    expect(events.limit).toBe((abi.wordBytes * 8) ** 2);
    expect(fifo.initControl(0, 20, FRAME_SIZE - 72).result).toBe(0);
    expect(fifo.initControl(0, 20, 0).result).toBe(-ERRNO.EINVAL);
    expect(fifo.expand(99)).toBe(-ERRNO.EINVAL);
    expect(events.expandArray(2 ** 53)).toBe(-ERRNO.EINVAL);
    for (let i = 0; i < 128; i++) expect(fifo.expand(10)).toBe(0);
    expect(fifo.expand(10)).toBe(-ERRNO.ENOSPC);
  });

  it("refuses frames that are in use as something else", () => {
    const world = makeWorld({ abi });
    const { frames } = world.machine;
    const fifo = new FifoGuest(world.guests[0]!);
    const mfn = fifo.guest.mfn(20);
    frames.getType(mfn, 3);
    expect(fifo.initControl(0, 20, 0).result).toBe(-ERRNO.EINVAL);
    expect(frames.refs[mfn]).toBe(1);
    frames.putType(mfn);
    expect(fifo.initControl(0, 20, 0).result).toBe(0);
    expect(frames.getType(mfn, 3)).toBe(false);
  });

  it("goes back to the 2-level ABI on reset, and gives the frames back", () => {
    const { world, fifo } = setUp(abi, 2, 2);
    const { domain } = fifo.guest;
    const { frames } = world.machine;
    for (let i = 0; i < 5000; i++) domain.events.bindIpi(0);
    domain.shared!.setPending(3);
    expect(domain.events.reset()).toBe(0);
    expect(domain.events.used).toBe(0);
    expect(domain.events.limit).toBe((abi.wordBytes * 8) ** 2);
    expect(domain.events.isValid(4500)).toBe(false);
    for (const page of [10, 20, 21]) {
      expect(frames.refs[fifo.guest.mfn(page)]).toBe(1);
      expect(frames.typeCount[fifo.guest.mfn(page)]).toBe(0);
    }
    const port = domain.events.bindVirq(VIRQ.TIMER, 0);
    expect(port).toBe(1);
    domain.events.sendVirq(domain.vcpus[0]!, VIRQ.TIMER);
    expect(domain.shared!.isPending(1)).toBe(true);
    expect(domain.shared!.isPending(3)).toBe(false);
    expect(fifo.initControl(0, 20, 0).result).toBe(0);
    world.destroy(fifo.guest);
    expect(frames.ownedBy(domain.id)).toBe(0);
  });

  it("drops nothing and crashes nothing for a vCPU without a control block", () => {
    const world = makeWorld({ abi, vcpus: 2 });
    const fifo = new FifoGuest(world.guests[0]!);
    const { events } = fifo.guest.domain;
    fifo.initControl(0, 20, 0);
    fifo.expand(10);
    const port = events.bindIpi(1);
    fifo.unmask(port);
    events.send(port);
    expect(fifo.isPending(port)).toBe(true);
    expect(fifo.isLinked(port)).toBe(false);
    expect(fifo.initControl(1, 21, 0).result).toBe(0);
    fifo.unmask(port);
    expect(ports(fifo.consume(1))).toEqual([port]);
  });
});

describe("a careful guest", () => {
  const action = fc.record({
    what: fc.constantFrom("send", "send", "send", "take", "take", "mask", "unmask", "priority", "vcpu", "reopen"),
    port: fc.integer({ min: 1, max: 8 }),
    vcpu: fc.nat(2),
    number: fc.nat(15),
  });

  it.each(FAKE_ABIS)("takes every event exactly once, in order, where it belongs ($name)", (abi) => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 120 }), (actions) => {
        const world = makeWorld({ abi, vcpus: 3, frames: 32 });
        const fifo = new FifoGuest(world.guests[0]!);
        const { domain } = fifo.guest;
        const { events } = domain;
        for (let v = 0; v < 3; v++) fifo.initControl(v, 20 + v, 0);
        fifo.expand(10);
        /** What a list must hold: port, and the list it was put on. */
        const lists = new Map<string, number[]>();
        const place = Array.from({ length: 9 }, () => ({ vcpu: 0, priority: 7, pending: false, linked: false }));
        const backends = place.map((_, i) => {
          if (i === 0) return null;
          const port = events.allocUnbound(0);
          expect(port).toBe(i);
          fifo.unmask(port);
          return world.dom0.events.bindBackend(domain, port, () => {});
        });
        const raise = (port: number): void => {
          const p = place[port]!;
          p.pending = true;
          if (fifo.isMasked(port) || p.linked) return;
          p.linked = true;
          const key = `${p.vcpu} ${p.priority}`;
          lists.set(key, [...(lists.get(key) ?? []), port]);
        };
        const take = (vcpu: number, most: number): void => {
          for (const got of fifo.consume(vcpu, most)) {
            const list = lists.get(`${vcpu} ${got.priority}`) ?? [];
            // What was masked or cleared after it was put on the list is passed over.
            while (list.length > 0 && list[0] !== got.port) {
              const passed = list.shift()!;
              expect(!place[passed]!.pending || fifo.isMasked(passed)).toBe(true);
              place[passed]!.linked = false;
            }
            expect(list.shift()).toBe(got.port);
            expect(place[got.port]!.pending).toBe(true);
            Object.assign(place[got.port]!, { linked: false, pending: false });
          }
          if (most < Infinity) return;
          for (const [key, list] of lists)
            if (key.startsWith(`${vcpu} `))
              for (const passed of list.splice(0)) {
                expect(!place[passed]!.pending || fifo.isMasked(passed)).toBe(true);
                place[passed]!.linked = false;
              }
        };
        for (const { what, port, vcpu, number } of actions) {
          if (what === "send") {
            raise(port);
            backends[port]!.notify();
          } else if (what === "take") take(vcpu, number < 8 ? number : Infinity);
          else if (what === "mask") fifo.mask(port);
          else if (what === "unmask") {
            // A partly consumed list leaves words unlinked that the model still counts: those lists are emptied first.
            for (let v = 0; v < 3; v++) take(v, Infinity);
            const pending = fifo.isPending(port);
            fifo.unmask(port);
            if (pending) raise(port);
          } else if (what === "priority") {
            events.setPriority(port, number);
            place[port]!.priority = number;
          } else if (what === "vcpu") {
            events.bindVcpu(port, vcpu);
            place[port]!.vcpu = vcpu;
          } else if (!fifo.isLinked(port)) {
            for (let v = 0; v < 3; v++) take(v, Infinity);
            backends[port]!.close();
            events.close(port);
            expect(events.allocUnbound(0)).toBe(port);
            place[port] = { vcpu: 0, priority: 7, pending: false, linked: false };
            backends[port] = world.dom0.events.bindBackend(domain, port, () => {});
          }
        }
        for (let port = 1; port <= 8; port++) {
          for (let v = 0; v < 3; v++) take(v, Infinity);
          const pending = fifo.isPending(port);
          fifo.unmask(port);
          if (pending) raise(port);
        }
        for (let v = 0; v < 3; v++) take(v, Infinity);
        for (let port = 1; port <= 8; port++) {
          expect(fifo.isPending(port)).toBe(false);
          expect(place[port]!.pending).toBe(false);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe("a hostile guest", () => {
  const step = fc.record({
    what: fc.constantFrom(
      "word",
      "word",
      "control",
      "send",
      "send",
      "unmask",
      "priority",
      "close",
      "ipi",
      "vcpu",
      "more",
    ),
    port: fc.nat(1200),
    value: fc.oneof(
      fc.constantFrom(0, 0xffff_ffff, 0x2000_0000, 0x2001_ffff, 0xa000_0001, 0x3000_0002),
      fc.nat(0xffff_ffff),
    ),
    vcpu: fc.nat(2),
  });

  it.each(FAKE_ABIS)("writes only into its own array and control blocks, and leaves nothing behind ($name)", (abi) => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150 }), (steps) => {
        const { world, fifo } = setUp(abi, 2, 12);
        const { domain } = fifo.guest;
        const { frames } = world.machine;
        const own = new Set([10, 11, 20, 21].map((page) => fifo.guest.mfn(page)));
        const outside = (): number[] => {
          const sums: number[] = [];
          for (let mfn = 0; mfn < frames.count; mfn++) {
            if (own.has(mfn) || mfn === domain.sharedInfo || mfn === fifo.guest.mfn(1)) continue;
            const words = new Uint32Array(frames.memory.buffer, mfn * FRAME_SIZE, FRAME_SIZE / 4);
            if (words.some((w) => w !== 0)) sums.push(mfn, ...words.filter((w) => w !== 0));
          }
          return sums;
        };
        const before = outside();
        for (const { what, port, value, vcpu } of steps) {
          if (what === "word") fifo.write(10 + (fifo.array.length > 1 ? port & 1 : 0), (port % 1024) * 4, value);
          else if (what === "control") fifo.write(20 + (port & 1), (port % 20) * 4, value);
          else if (what === "send") domain.events.send(port % 14);
          else if (what === "unmask") domain.events.unmask(port % 80);
          else if (what === "priority") domain.events.setPriority(port % 14, value % 18);
          else if (what === "close") domain.events.close(port % 14);
          else if (what === "ipi") domain.events.bindIpi(vcpu);
          else if (what === "vcpu") domain.events.bindVcpu(port % 14, vcpu);
          else if (fifo.array.length < 2) fifo.expand(11);
        }
        expect(outside()).toEqual(before);
        world.destroy(fifo.guest);
        expect(frames.ownedBy(domain.id)).toBe(0);
        expect(frames.typeCount.every((count) => count === 0)).toBe(true);
      }),
      { numRuns: 12 },
    );
  });
});
