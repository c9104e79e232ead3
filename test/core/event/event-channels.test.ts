import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ERRNO, EVTCHNSTAT, VIRQ } from "../../../core/abi/index.ts";
import { PauseFlag } from "../../../core/domain/vcpu.ts";
import { EventError } from "../../../core/event/event-error.ts";
import { FAKE_ABIS, makeWorld } from "../../support/fake-arch.ts";

/** Lets a vCPU take upcalls. */
function unmaskUpcalls(world: ReturnType<typeof makeWorld>): void {
  for (const { domain } of world.guests) for (const vcpu of domain.vcpus) domain.shared!.setUpcallMask(vcpu, false);
}

describe.each(FAKE_ABIS)("event channels of $name", (abi) => {
  it("connects two guests and delivers", () => {
    const world = makeWorld({ abi, guests: 2 });
    unmaskUpcalls(world);
    const [a, b] = world.guests.map((g) => g.domain) as [typeof world.dom0, typeof world.dom0];
    const port = a.events.allocUnbound(b.id);
    expect(port).toBe(1);
    expect(a.events.send(port)).toBe(0);
    expect(a.events.bindInterdomain(b.id, port)).toBe(-ERRNO.EINVAL);
    const other = b.events.bindInterdomain(a.id, port);
    expect(other).toBe(1);
    // Binding marks the local port: events may have been lost before.
    expect(b.shared!.isPending(other)).toBe(true);
    expect(b.shared!.upcallPending(b.vcpus[0]!)).toBe(true);
    expect(a.shared!.isPending(port)).toBe(false);
    world.machine.control.setFlag(a.vcpus[0]!, PauseFlag.blocked);
    expect(b.events.send(other)).toBe(0);
    expect(a.shared!.isPending(port)).toBe(true);
    expect(a.vcpus[0]!.runnable).toBe(true);
    expect(a.events.status(port)).toMatchObject({ state: EVTCHNSTAT.interdomain, remoteId: b.id, remotePort: other });
    expect(b.events.close(other)).toBe(0);
    expect(a.events.status(port)).toMatchObject({ state: EVTCHNSTAT.unbound, remoteId: b.id });
    expect(a.events.send(port)).toBe(0);
    expect(b.events.send(other)).toBe(-ERRNO.EINVAL);
  });

  it("has the ports of its word size, and says when they are used up", () => {
    const { guests } = makeWorld({ abi });
    const { events } = guests[0]!.domain;
    expect(events.limit).toBe(abi.wordBytes === 8 ? 4096 : 1024);
    for (let port = 1; port < events.limit; port++) expect(events.allocUnbound(0)).toBe(port);
    expect(events.allocUnbound(0)).toBe(-ERRNO.ENOSPC);
    events.close(77);
    expect(events.allocUnbound(0)).toBe(77);
  });

  it("puts every port's bits where the guest looks", () => {
    const { guests, machine } = makeWorld({ abi });
    const { domain } = guests[0]!;
    const shared = domain.shared!;
    const bits = abi.wordBytes * 8;
    const base = domain.sharedInfo * 4096 + abi.legacyVcpus * 64;
    for (const port of [1, 31, 32, 63, 64, 65, 1000, shared.ports - 1]) {
      shared.setPending(port);
      const word = base + Math.floor(port / bits) * abi.wordBytes;
      const bit = port % bits;
      const little = abi.endian === "little";
      const half = abi.wordBytes === 4 ? 0 : bit >= 32 === little ? 4 : 0;
      expect(machine.frames.view.getUint32(word + half, little) >>> 0).toBe((1 << (bit % 32)) >>> 0);
      shared.clearPending(port);
    }
  });

  it("keeps a masked event until it is unmasked", () => {
    const world = makeWorld({ abi });
    const { domain } = world.guests[0]!;
    const [vcpu] = domain.vcpus;
    const port = domain.events.bindIpi(0);
    world.machine.frames.bytes.fill(
      0xff,
      domain.sharedInfo * 4096 + abi.legacyVcpus * 64 + bitmapBytes(abi.wordBytes),
      domain.sharedInfo * 4096 + abi.legacyVcpus * 64 + 2 * bitmapBytes(abi.wordBytes),
    );
    domain.events.send(port);
    expect(domain.shared!.isPending(port)).toBe(true);
    expect(domain.shared!.upcallPending(vcpu!)).toBe(false);
    expect(domain.events.unmask(port)).toBe(0);
    expect(domain.shared!.upcallPending(vcpu!)).toBe(true);
    expect(domain.events.unmask(5000)).toBe(-ERRNO.EINVAL);
  });
});

function bitmapBytes(wordBytes: number): number {
  return wordBytes * wordBytes * 8;
}

describe("virtual interrupts", () => {
  it("binds once a vCPU, and answers Xen's errors", () => {
    const { guests } = makeWorld({ vcpus: 2 });
    const { domain } = guests[0]!;
    const { events } = domain;
    expect(events.bindVirq(99, 0)).toBe(-ERRNO.EINVAL);
    expect(events.bindVirq(VIRQ.CONSOLE, 1)).toBe(-ERRNO.EINVAL);
    expect(events.bindVirq(VIRQ.TIMER, 7)).toBe(-ERRNO.ENOENT);
    const port = events.bindVirq(VIRQ.TIMER, 1);
    expect(port).toBe(1);
    expect(events.bindVirq(VIRQ.TIMER, 1)).toBe(-ERRNO.EEXIST);
    events.sendVirq(domain.vcpus[1]!, VIRQ.TIMER);
    events.sendVirq(domain.vcpus[0]!, VIRQ.TIMER);
    expect(domain.shared!.upcallPending(domain.vcpus[1]!)).toBe(true);
    expect(domain.shared!.upcallPending(domain.vcpus[0]!)).toBe(false);
    expect(events.bindVcpu(port, 0)).toBe(-ERRNO.EINVAL);
    events.close(port);
    expect(domain.vcpus[1]!.virqToPort[VIRQ.TIMER]).toBe(0);
    expect(domain.shared!.isPending(port)).toBe(false);
  });
});

describe("domain 0's end", () => {
  it("queues its handler once for each time it becomes pending", () => {
    const { machine, dom0, guests } = makeWorld();
    const { domain } = guests[0]!;
    const port = domain.events.allocUnbound(0);
    let calls = 0;
    const backend = dom0.events.bindBackend(domain, port, () => calls++);
    machine.runPosted();
    expect(calls).toBe(1);
    domain.events.send(port);
    domain.events.send(port);
    expect(calls).toBe(1);
    machine.runPosted();
    expect(calls).toBe(2);
    backend.notify();
    expect(domain.shared!.isPending(port)).toBe(true);
    domain.events.send(port);
    backend.close();
    backend.close();
    machine.runPosted();
    expect(calls).toBe(2);
    expect(domain.events.status(port)).toMatchObject({ state: EVTCHNSTAT.unbound, remoteId: 0 });
    backend.notify();
  });

  it("refuses what is not for it, with Xen's errno", () => {
    const { dom0, guests } = makeWorld({ guests: 2 });
    const [a, b] = guests;
    const port = a!.domain.events.allocUnbound(b!.domain.id);
    for (const wrong of [port, 0, 3, 60000]) {
      expect(() => dom0.events.bindBackend(a!.domain, wrong, () => {})).toThrow(EventError);
    }
    expect(dom0.events.used).toBe(0);
  });

  it("survives the guest's destruction, with its own end unbound", () => {
    const world = makeWorld();
    const { domain } = world.guests[0]!;
    const port = domain.events.allocUnbound(0);
    const backend = world.dom0.events.bindBackend(domain, port, () => {});
    world.destroy(world.guests[0]!);
    expect(domain.events.used).toBe(0);
    expect(world.dom0.events.status(backend.port)).toMatchObject({ state: EVTCHNSTAT.unbound });
    expect(domain.events.allocUnbound(0)).toBe(-ERRNO.EINVAL);
    backend.notify();
    backend.close();
    expect(world.dom0.events.used).toBe(0);
  });
});

describe("accessCheck", () => {
  it("may refuse a binding", () => {
    const { machine, guests } = makeWorld({ guests: 2 });
    machine.hooks.accessCheck.tap("test", (request) =>
      request.action === "evtchn_interdomain" ? -ERRNO.EACCES : undefined,
    );
    const [a, b] = guests.map((g) => g.domain);
    const port = a!.events.allocUnbound(b!.id);
    expect(b!.events.bindInterdomain(a!.id, port)).toBe(-ERRNO.EACCES);
    expect(b!.events.used).toBe(0);
  });
});

describe("the state machine", () => {
  it("keeps its invariants under any sequence of operations", () => {
    const step = fc.record({
      actor: fc.nat(2),
      op: fc.constantFrom("alloc", "bind", "virq", "ipi", "close", "send", "reset", "destroy"),
      x: fc.nat(8),
      y: fc.nat(8),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const world = makeWorld({ guests: 3, vcpus: 2, frames: 2, memoryMiB: 1 });
        const domains = world.guests.map((g) => g.domain);
        for (const { actor, op, x, y } of steps) {
          const domain = domains[actor]!;
          const { events } = domain;
          if (op === "alloc") events.allocUnbound(x % 4);
          else if (op === "bind") events.bindInterdomain(x % 4, y);
          else if (op === "virq") events.bindVirq(x, y % 3);
          else if (op === "ipi") events.bindIpi(x % 3);
          else if (op === "close") events.close(x);
          else if (op === "send") events.send(x);
          else if (op === "reset" && y === 0) events.reset();
          else if (op === "destroy" && x === 0 && !domain.dying) world.destroy(world.guests[actor]!);
        }
        for (const domain of domains) {
          if (domain.dying) expect(domain.events.used).toBe(0);
          for (let port = 0; port < 64; port++) {
            const status = domain.events.status(port);
            if (typeof status === "number" || status.state !== EVTCHNSTAT.interdomain) continue;
            const peer = domains.find((d) => d.id === status.remoteId)!;
            expect(peer.events.status(status.remotePort)).toMatchObject({
              state: EVTCHNSTAT.interdomain,
              remoteId: domain.id,
              remotePort: port,
            });
          }
          for (const vcpu of domain.vcpus)
            for (const [virq, port] of vcpu.virqToPort.entries())
              if (port !== 0) expect(domain.events.status(port)).toMatchObject({ state: EVTCHNSTAT.virq, virq });
        }
      }),
      { numRuns: 60 },
    );
  });
});
