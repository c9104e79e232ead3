/** Guest-physical memory of a domain: what a guest maps where, within bounds, and nothing of it outlives the domain. */
import fc from "fast-check";
import { type Domain, FRAME_SIZE, INVALID_GFN, xen } from "hookvisor";
import { describe, expect, it } from "vitest";
import { type Booted, boot } from "./boot.ts";
import { BASE, Program, REG } from "./guest.ts";

const { __HYPERVISOR: H, ERRNO, GNTMAP, GNTST, HVMOP, XENMAPSPACE, XENMEM } = xen;
const RAM_GFN = BASE / FRAME_SIZE;
const RAM_FRAMES = 1024;
const DATA = BASE + 0x2_0000;
const { a0, t0, t1 } = REG;

const idle = new Program().label("idle").put("wfi").jump("idle").image();

async function guest(): Promise<Booted & { domain: Domain }> {
  const booted = await boot();
  return { ...booted, domain: await booted.create(idle) };
}

describe("guest-physical memory", () => {
  it("has RAM, the special pages and devices, and one place for each frame", async () => {
    const { domain, hypervisor } = await guest();
    const arch = domain.arch!;
    const { frames } = hypervisor.machine;
    expect(frames.gfnOf[arch.gfnToMfn(domain, RAM_GFN + 7)]).toBe(RAM_GFN + 7);
    expect(arch.gfnToMfn(domain, RAM_GFN + RAM_FRAMES)).toBe(-1);
    expect(arch.gfnToMfn(domain, 0x39000)).toBe(arch.gfnToMfn(domain, domain.console.mfn));
    // The PLIC and the serial port stay.
    for (const gfn of [0xc000, 0xffff, 0x10000]) expect(arch.setPhysmap(domain, gfn, -1)).toBe(-ERRNO.EINVAL);
    const { sharedInfo } = domain;
    expect(arch.setPhysmap(domain, 0x3a000, sharedInfo)).toBe(0);
    expect(arch.setPhysmap(domain, 0x3a001, sharedInfo)).toBe(0);
    expect(arch.gfnToMfn(domain, 0x3a000)).toBe(-1);
    expect(arch.gfnToMfn(domain, 0x3a001)).toBe(sharedInfo);
    expect(arch.maximumGfn!(domain)).toBe(RAM_GFN + RAM_FRAMES - 1);
    for (const gfn of [-1, 2 ** 30, INVALID_GFN, Infinity])
      expect(arch.setPhysmap(domain, gfn, sharedInfo)).toBe(-ERRNO.EINVAL);
  });

  it("maps grants where nothing else of a grant's or a device's is", async () => {
    const { domain, hypervisor } = await guest();
    const arch = domain.arch!;
    const [vcpu] = domain.vcpus;
    const [mfn = -1] = hypervisor.machine.frames.allocate(0, 1);
    const map = (lo: number, hi = 0, flags: number = GNTMAP.host_map) => arch.mapGrant(vcpu!, lo, hi, mfn, flags);
    const unmap = (lo: number, which = mfn, next = 0) => arch.unmapGrant(vcpu!, lo, 0, which, GNTMAP.host_map, next, 0);
    expect(map(0x3b00_0000)).toBe(GNTST.okay);
    expect(map(0x3b00_0000)).toBe(GNTST.bad_virt_addr);
    expect(map(0x3b00_1001)).toBe(GNTST.bad_virt_addr);
    expect(map(0, 0x400)).toBe(GNTST.bad_virt_addr);
    expect(map(0xc00_0000)).toBe(GNTST.bad_virt_addr);
    expect(map(0x3b00_1000, 0, GNTMAP.host_map | GNTMAP.contains_pte)).toBe(GNTST.general_error);
    expect(arch.gfnToMfn(domain, 0x3b000)).toBe(-1);
    expect(arch.setPhysmap(domain, 0x3b000, -1)).toBe(-ERRNO.EINVAL);
    expect(arch.copyToGuest(vcpu!, 0x3b00_0010, 0, Uint8Array.of(9), 1)).toBe(true);
    expect(hypervisor.machine.frames.bytes[mfn * FRAME_SIZE + 0x10]).toBe(9);
    expect(unmap(0x3b00_0000, mfn + 1)).toBe(GNTST.general_error);
    expect(unmap(0x3b00_0000, mfn, 0x1000)).toBe(GNTST.general_error);
    expect(unmap(0x3b00_0000)).toBe(GNTST.okay);
    expect(unmap(0x3b00_0000)).toBe(GNTST.general_error);
    expect(arch.copyToGuest(vcpu!, 0x3b00_0010, 0, Uint8Array.of(9), 1)).toBe(false);
    // Read-only is read-only.
    expect(map(0x3b00_0000, 0, GNTMAP.host_map | GNTMAP.readonly)).toBe(GNTST.okay);
    expect(arch.copyFromGuest(vcpu!, 0x3b00_0010, 0, new Uint8Array(1), 1)).toBe(true);
    expect(arch.copyToGuest(vcpu!, 0x3b00_0010, 0, Uint8Array.of(9), 1)).toBe(false);
    expect(unmap(0x3b00_0000)).toBe(GNTST.okay);
  });

  it("bounds the tables that a guest can use up", async () => {
    const { domain, hypervisor } = await guest();
    const { frames } = hypervisor.machine;
    const before = frames.free;
    let refused = 0;
    // A table of its own for each.
    for (let i = 0; i < 500; i++) {
      const answer = domain.arch!.setPhysmap(domain, 0x100_0000 + i * 0x400, domain.sharedInfo);
      expect([0, -ERRNO.ENOMEM]).toContain(answer);
      if (answer !== 0) refused++;
    }
    expect(before - frames.free).toBeLessThanOrEqual(64);
    expect(refused).toBeGreaterThan(400);
    // Where there is a table it goes on.
    expect(domain.arch!.setPhysmap(domain, 0x39004, domain.sharedInfo)).toBe(0);
  });

  it("whatever a guest asks, frames are in one place at most, and all come back", async () => {
    const { domain, hypervisor, faults } = await guest();
    const { frames } = hypervisor.machine;
    const arch = domain.arch!;
    const gfns = fc.oneof(
      fc.integer({ min: RAM_GFN, max: RAM_GFN + 8 }),
      fc.integer({ min: 0x3b000, max: 0x3b004 }),
      fc.constantFrom(0xc000, 0x10000, 0x39000, 2 ** 30, INVALID_GFN),
    );
    const steps = fc.array(fc.tuple(fc.nat(4), gfns, gfns), { maxLength: 40 });
    fc.assert(
      fc.property(steps, (list) => {
        for (const [kind, gfn, other] of list) {
          const mfn = arch.gfnToMfn(domain, gfn);
          if (kind === 0 && mfn >= 0 && arch.releaseFrame(domain, gfn, mfn)) frames.dropAllocation(mfn);
          else if (kind === 1) {
            const [fresh = -1] = frames.allocate(domain.id, 1);
            arch.acquireFrame(domain, gfn, fresh);
            if (arch.gfnToMfn(domain, gfn) !== fresh) frames.dropAllocation(fresh);
          } else if (kind === 2 && mfn >= 0) arch.setPhysmap(domain, other, mfn);
          else if (kind === 3) arch.setPhysmap(domain, gfn, -1);
          else arch.copyToGuest(domain.vcpus[0]!, (gfn * FRAME_SIZE) >>> 0, 0, Uint8Array.of(1, 2), 2);
        }
        const places = new Map<number, number>();
        for (let gfn = RAM_GFN; gfn < RAM_GFN + RAM_FRAMES; gfn++) {
          const mfn = arch.gfnToMfn(domain, gfn);
          if (mfn < 0) continue;
          expect(frames.owns(domain.id, mfn)).toBe(true);
          expect(places.has(mfn)).toBe(false);
          places.set(mfn, gfn);
        }
      }),
      { numRuns: 40 },
    );
    expect(faults).toEqual([]);
    await hypervisor.destroyDomain(domain);
    expect(frames.ownedBy(domain.id)).toBe(0);
  });
});

describe("Xen's calls", () => {
  it("hvm_op tells of console and XenStore, and takes nothing", async () => {
    const booted = await boot();
    const p = new Program();
    const ask = (op: number, index: number, domid: number, i: number): void => {
      p.li(t0, domid)
        .li(t1, DATA)
        .put("sw", { rs1: t1, rs2: t0 })
        .li(t0, index)
        .put("sw", { rs1: t1, rs2: t0, imm: 4 });
      p.put("sd", { rs1: t1, imm: 8 }).hypercall(H.hvm_op, [op, DATA]);
      p.store(a0, DATA + 0x100 + 16 * i)
        .li(t1, DATA)
        .put("ld", { rd: t0, rs1: t1, imm: 8 });
      p.store(t0, DATA + 0x108 + 16 * i);
    };
    const { CONSOLE_PFN, CONSOLE_EVTCHN, STORE_PFN, STORE_EVTCHN, CALLBACK_IRQ, IOREQ_PFN } = xen.HVM_PARAM;
    const self = xen.DOMID.SELF;
    [CONSOLE_PFN, CONSOLE_EVTCHN, STORE_PFN, STORE_EVTCHN, IOREQ_PFN, 1e6].forEach((index, i) => {
      ask(HVMOP.get_param, index, self, i);
    });
    ask(HVMOP.set_param, CONSOLE_PFN, self, 6);
    ask(HVMOP.get_param, CONSOLE_PFN, 0, 7);
    ask(HVMOP.get_param, CALLBACK_IRQ, self, 8);
    ask(99, CALLBACK_IRQ, self, 9);
    // SBI has no number among the hypercalls.
    p.hypercall(H.arch_0, []).store(a0, DATA + 0x300);
    p.li(t0, 0).store(t0, DATA).hypercall(H.sched_op, [xen.SCHEDOP.shutdown, DATA]);
    const domain = await booted.create(p.image());
    expect(await booted.run()).toBe("done");
    const answers = booted.words(domain, DATA + 0x100, 20);
    const { EINVAL, EPERM, ENOSYS } = ERRNO;
    expect(answers.filter((_, i) => i % 2 === 0)).toEqual([0, 0, 0, 0, -EINVAL, -EINVAL, -EPERM, -EPERM, 0, -ENOSYS]);
    const values = answers.filter((_, i) => i % 2 === 1);
    expect(values.slice(0, 4)).toEqual([0x39000, domain.console.port, 0x39001, domain.store.port]);
    expect(values[8]).toBe(16 + 2 * 2 ** 56);
    expect(booted.words(domain, DATA + 0x300, 1)).toEqual([-ENOSYS]);
  });

  it("upcalls come when interrupts are on, once an event, however the run is cut", async () => {
    const [IPI, PORT, COUNT, SHARED] = [DATA, DATA + 0x40, DATA + 0x80, 0x3a00_0000];
    const p = new Program();
    // struct xen_add_to_physmap: domid, size, space (0: shared_info), idx, gpfn; struct evtchn_bind_ipi: vcpu, port
    p.li(t0, xen.DOMID.SELF)
      .store(t0, DATA)
      .store(0, DATA + 8);
    p.li(t0, SHARED / FRAME_SIZE).store(t0, DATA + 16);
    p.hypercall(H.memory_op, [XENMEM.add_to_physmap, DATA]);
    p.store(0, IPI).hypercall(H.event_channel_op, [xen.EVTCHNOP.bind_ipi, IPI]);
    p.li(t1, IPI).put("lw", { rd: t0, rs1: t1, imm: 4 }).store(t0, PORT);
    p.address(t0, "handler")
      .put("csrrw", { rs1: t0, imm: 0x105 })
      .li(t0, 1 << 16)
      .put("csrrs", { rs1: t0, imm: 0x104 });
    p.li(20, 0);
    // Interrupts off, an event, something else, interrupts on.
    p.label("round").put("csrrci", { rs1: 2, imm: 0x100 });
    p.hypercall(H.event_channel_op, [xen.EVTCHNOP.send, PORT]);
    p.li(t0, COUNT + 8)
      .put("ld", { rd: t1, rs1: t0 })
      .put("addi", { rd: t1, rs1: t1, imm: 1 });
    p.put("sd", { rs1: t0, rs2: t1 }).put("csrrsi", { rs1: 2, imm: 0x100 });
    for (let i = 0; i < 7; i++) p.put("addi", { rd: 20, rs1: 20, imm: 1 });
    p.jump("round");
    p.label("handler").li(t0, SHARED).put("sd", { rs1: t0, imm: 8 });
    for (const at of [48, 48 + 8]) p.put("sd", { rs1: t0, imm: at });
    p.li(28, COUNT).put("ld", { rd: 29, rs1: 28 }).put("addi", { rd: 29, rs1: 29, imm: 1 });
    p.put("sd", { rs1: 28, rs2: 29 }).put("sb", { rs1: t0 }).put("sret");
    const image = p.image();
    const counted = async (pieces: number): Promise<readonly number[]> => {
      const booted = await boot();
      const domain = await booted.create(image);
      for (let i = 0; i < pieces; i++) await booted.run(2 / pieces);
      const [upcalls = 0, events = 0] = booted.words(domain, COUNT, 2);
      expect(upcalls).toBeGreaterThan(50);
      expect(events - upcalls).toBeGreaterThanOrEqual(0);
      expect(events - upcalls).toBeLessThanOrEqual(1);
      return [upcalls, events];
    };
    const whole = await counted(1);
    expect(await counted(50)).toEqual(whole);
    expect(await counted(400)).toEqual(whole);
  });

  it("memory moves within the physmap: decrease, populate, gmfn", async () => {
    const booted = await boot();
    const p = new Program();
    const target = RAM_GFN + 0x200;
    // struct xen_memory_reservation: extent_start, nr_extents, extent_order, mem_flags, domid
    const reservation = DATA + 0x40;
    p.li(t0, target)
      .store(t0, DATA + 0x20)
      .li(t0, DATA + 0x20)
      .store(t0, reservation)
      .li(t0, 1)
      .store(t0, reservation + 8);
    p.li(t0, 0)
      .store(t0, reservation + 16)
      .li(t0, xen.DOMID.SELF)
      .li(t1, reservation + 24);
    p.put("sd", { rs1: t1, rs2: t0 });
    p.li(t0, 0x1234).store(t0, target * FRAME_SIZE);
    p.hypercall(H.memory_op, [XENMEM.decrease_reservation, reservation]).store(a0, DATA + 0x100);
    p.hypercall(H.memory_op, [XENMEM.decrease_reservation, reservation]).store(a0, DATA + 0x108);
    p.hypercall(H.memory_op, [XENMEM.populate_physmap, reservation]).store(a0, DATA + 0x110);
    p.li(t1, target * FRAME_SIZE)
      .put("ld", { rd: t0, rs1: t1 })
      .store(t0, DATA + 0x118);
    // struct xen_add_to_physmap: domid, size, space, idx, gpfn
    const move = DATA + 0x80;
    p.li(t0, BigInt(xen.DOMID.SELF) | (BigInt(XENMAPSPACE.gmfn) << 32n)).store(t0, move);
    p.li(t0, target)
      .store(t0, move + 8)
      .li(t0, 0x3b000)
      .store(t0, move + 16)
      .li(t0, 77)
      .store(t0, target * FRAME_SIZE);
    p.hypercall(H.memory_op, [XENMEM.add_to_physmap, move]).store(a0, DATA + 0x120);
    p.li(t1, 0x3b00_0000)
      .put("ld", { rd: t0, rs1: t1 })
      .store(t0, DATA + 0x128);
    p.li(t0, 0).store(t0, DATA).hypercall(H.sched_op, [xen.SCHEDOP.shutdown, DATA]);
    const domain = await booted.create(p.image());
    expect(await booted.run()).toBe("done");
    expect(booted.words(domain, DATA + 0x100, 6)).toEqual([1, 0, 1, 0, 0, 77]);
    // The list of extents says gfns still.
    expect(booted.words(domain, DATA + 0x20, 1)).toEqual([target]);
    expect(domain.arch!.gfnToMfn(domain, target)).toBe(-1);
  });
});
