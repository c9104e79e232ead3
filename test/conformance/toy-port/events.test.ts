/** Event channels and grants between toy domains; frames of 4 KiB inside pages of 8 KiB. */
import { describe, expect, test } from "vitest";
import * as xen from "../../../core/abi/index.ts";
import { Assembler, type Guest, ToyMachine } from "./machine.ts";
import { acknowledge, begin, count, notify, SHARED, upcalls, wait } from "./snippets.ts";

const H = xen.__HYPERVISOR;
const { EVTCHNOP, GNTTABOP, GNTMAP, GNTST } = xen;

/** Where grant tables and mappings go: behind shared info. */
const TABLE = 0x40_0000;
const MAPPING = 0x50_0000;

/** Domain ids in the order of creation. */
const FIRST = 1;
const SECOND = 2;

describe("event channels", () => {
  /** Allocates a port for the other domain, answers each event with one. */
  const server = (rounds: number): Assembler => {
    const p = begin(new Assembler());
    p.struct("alloc", xen.evtchn_alloc_unbound, { dom: xen.DOMID.SELF, remote_dom: SECOND });
    p.data("port", 4);
    p.data("served", 4);
    p.hypercall(H.event_channel_op, [EVTCHNOP.alloc_unbound, "alloc"], "allocated");
    p.load(9, "alloc", 4).store(9, "port");
    p.label("serve");
    wait(p, "port");
    count(p, "served");
    notify(p, "port");
    p.load(8, "served").li(9, rounds).bne(8, 9, "serve");
    return p.shutdown();
  };
  /** Binds to the first port of the first domain, sends, waits for each answer by upcalls. */
  const client = (rounds: number, remotePort: number): Assembler => {
    const p = begin(new Assembler());
    p.struct("bind", xen.evtchn_bind_interdomain, { remote_dom: FIRST, remote_port: remotePort });
    p.data("port", 4);
    p.data("events", 4);
    p.data("sent", 4);
    p.hypercall(H.event_channel_op, [EVTCHNOP.bind_interdomain, "bind"], "bound");
    p.load(9, "bind", 8).store(9, "port");
    acknowledge(p); // the port is pending once bound
    upcalls(p, () => count(p, "events"));
    p.label("again");
    notify(p, "port");
    count(p, "sent");
    // Masked from the look to the block, which unmasks: no event is lost between the two.
    p.label("sleep").load(7, "shared").li(8, 1).sb(8, 7, SHARED.upcallMask);
    p.load(8, "sent").load(9, "events").beq(8, 9, "answered");
    p.hypercall(H.sched_op, [xen.SCHEDOP.block]).jump("sleep");
    p.label("answered").li(9, rounds).bne(8, 9, "again");
    return p.shutdown();
  };

  test.each([1, 2])("ping-pong on %i pCPUs: one polls, one blocks and is called", async (pcpus) => {
    const toy = await ToyMachine.boot({ pcpus });
    const one = await toy.create("server", server(50));
    const two = await toy.create("client", client(50, 3));
    const before = one.domain.events.used;
    toy.hypervisor.unpause(one.domain);
    await toy.run({ until: 1e6 });
    expect(one.domain.events.used).toBe(before + 1);
    expect(toy.word(one, "port")).toBe(3); // the builder's are 1 and 2
    toy.hypervisor.unpause(two.domain);
    expect(await toy.run({ end: [one, two] })).toBe("done");
    // Binding raises an event at the client's own end only, so that each round is one event each way.
    expect([toy.word(one, "served"), toy.word(two, "events"), toy.word(two, "bound")]).toEqual([50, 50, 0]);
  });

  test("accessCheck refuses an errno; without it the channel is bound", async () => {
    const asked: string[] = [];
    const toy = await ToyMachine.boot({
      apply: ({ hooks }) =>
        hooks.accessCheck.tap("test", ({ actor, action, target }) => {
          asked.push(`${actor.id} ${action} ${target.id}`);
          return action === "evtchn_interdomain" && actor.id === SECOND ? -xen.ERRNO.EACCES : undefined;
        }),
    });
    await toy.start("server", server(1));
    const two = await toy.start("client", client(1, 3));
    await toy.run({ until: 10e6 });
    expect(toy.word(two, "bound")).toBe(-xen.ERRNO.EACCES);
    expect(asked).toContain(`${SECOND} evtchn_interdomain ${FIRST}`);
    expect(asked).toContain(`0 evtchn_interdomain ${SECOND}`);
  });
});

describe("grants", () => {
  /** Writes a grant entry into the mapped table and shows memory under it. `frame` is the gfn of the label "page". */
  const granter = (flags: number): Assembler => {
    // The program is loaded so that "page" fills one 8 KiB page: two frames, each with a grant of its own.
    const p = begin(new Assembler(0x2000));
    p.struct("physmap", xen.xen_add_to_physmap, {
      domid: xen.DOMID.SELF,
      space: xen.XENMAPSPACE.grant_table,
      idx: 0,
      gpfn: TABLE / 4096,
    });
    p.hypercall(H.memory_op, [xen.XENMEM.add_to_physmap, "physmap"], "mapped");
    p.data("ready", 4);
    p.li(7, TABLE);
    for (const [ref, gfn] of [
      [8, 0x8],
      [9, 0x9],
    ] as const) {
      p.li(8, gfn).sw(8, 7, 8 * ref + 4);
      p.li(8, (flags << 16) | SECOND).sw(8, 7, 8 * ref);
      p.li(8, 0xabc0 + ref)
        .li(9, gfn * 4096)
        .sw(8, 9, 0x10);
    }
    p.li(8, 1).store(8, "ready");
    p.label("wait").halt().jump("wait");
    return p;
  };

  const mapBoth = (p: Assembler, flags: number): void => {
    for (const ref of [8, 9]) {
      p.struct(`map ${ref}`, xen.gnttab_map_grant_ref, {
        host_addr: MAPPING + 0x1000 * (ref - 8),
        flags,
        ref,
        dom: FIRST,
      });
      p.hypercall(H.grant_table_op, [GNTTABOP.map_grant_ref, `map ${ref}`, 1], `mapped ${ref}`);
    }
  };
  const mapStatus = (toy: ToyMachine, guest: Guest, ref: number): number =>
    toy.struct(guest, `map ${ref}`, xen.gnttab_map_grant_ref).status;

  test("two frames of one page, mapped apart, read and written; unmapped, all counts are back", async () => {
    const maps: string[] = [];
    const toy = await ToyMachine.boot({
      apply: ({ hooks }) =>
        hooks.grantMap.tap("test", (mapper, owner, ref, status) => {
          maps.push(`${mapper.id} ${owner.id} ${ref} ${status}`);
        }),
    });
    const { frames } = toy.hypervisor.machine;
    const one = await toy.start("granter", granter(xen.GTF.permit_access));
    await toy.run({ until: 5e6 });
    expect(toy.word(one, "mapped")).toBe(0);
    const mfns = [0x8, 0x9].map((gfn) => one.domain.arch!.gfnToMfn(one.domain, gfn));
    expect(mfns[0]! % 2).toBe(0);
    expect(mfns[1]).toBe(mfns[0]! + 1);
    const refs = mfns.map((mfn) => frames.refs[mfn]);

    const p = begin(new Assembler());
    mapBoth(p, GNTMAP.host_map);
    p.data("seen", 8);
    p.li(9, MAPPING).lw(8, 9, 0x10).store(8, "seen").li(7, 0x77).sw(7, 9, 0x20);
    p.li(9, MAPPING + 0x1000)
      .lw(8, 9, 0x10)
      .store(8, "seen", 4)
      .sw(7, 9, 0x20);
    p.data("hold", 4);
    p.label("held").load(8, "hold").li(9, 0).beq(8, 9, "held");
    for (const ref of [8, 9]) {
      p.struct(`unmap ${ref}`, xen.gnttab_unmap_grant_ref, {
        host_addr: MAPPING + 0x1000 * (ref - 8),
        handle: ref - 8,
      });
      p.hypercall(H.grant_table_op, [GNTTABOP.unmap_grant_ref, `unmap ${ref}`, 1], `unmapped ${ref}`);
    }
    p.shutdown();
    const two = await toy.start("mapper", p);
    await toy.run({ until: 20e6 });
    expect(toy.words(two, "seen", 2)).toEqual([0xabc8, 0xabc9]);
    expect([8, 9].map((ref) => mapStatus(toy, two, ref))).toEqual([GNTST.okay, GNTST.okay]);
    expect([toy.word(one, 0x8020), toy.word(one, 0x9020)]).toEqual([0x77, 0x77]);
    expect(mfns.map((mfn) => frames.refs[mfn]! - 1)).toEqual(refs);
    // The guest's own entry says that it is in use.
    expect(toy.read(one, TABLE + 8 * 8, 2).getUint16(0)).toBe(
      xen.GTF.permit_access | xen.GTF.reading | xen.GTF.writing,
    );
    two.domain.arch!.copyToGuest(two.domain.vcpus[0]!, p.address("hold"), 0, new Uint8Array([0, 0, 0, 1]), 4);
    expect(await toy.run({ end: [two] })).toBe("done");
    expect([8, 9].map((ref) => toy.struct(two, `unmap ${ref}`, xen.gnttab_unmap_grant_ref).status)).toEqual([0, 0]);
    expect(mfns.map((mfn) => frames.refs[mfn])).toEqual(refs);
    expect(maps).toContain("2 1 8 0");
    expect(one.domain.grants.activeCount).toBe(0);
  });

  test("a read-only grant: mapped read-only it can be read, a store crashes the mapper alone; for writing it is refused", async () => {
    const toy = await ToyMachine.boot();
    const one = await toy.start("granter", granter(xen.GTF.permit_access | xen.GTF.readonly));
    await toy.run({ until: 5e6 });
    const refused = begin(new Assembler());
    mapBoth(refused, GNTMAP.host_map);
    const two = await toy.start("writer", refused.shutdown());
    await toy.run({ end: [two] });
    expect([8, 9].map((ref) => mapStatus(toy, two, ref))).toEqual([GNTST.general_error, GNTST.general_error]);

    const again = await ToyMachine.boot();
    const owner = await again.start("granter", granter(xen.GTF.permit_access | xen.GTF.readonly));
    await again.run({ until: 5e6 });
    const p = begin(new Assembler());
    mapBoth(p, GNTMAP.host_map | GNTMAP.readonly);
    p.data("seen", 4);
    p.li(9, MAPPING).lw(8, 9, 0x10).store(8, "seen").li(9, MAPPING).sw(8, 9, 0x20).shutdown();
    const reader = await again.start("reader", p);
    await again.run({ end: [reader] });
    expect(again.word(reader, "seen")).toBe(0xabc8);
    expect(reader.domain.crashMessage).toMatch(/^bad address 0x500020 at pc 0x[0-9a-f]+$/);
    expect(owner.domain.shutdownReason).toBe(null);
    expect(one.domain.shutdownReason).toBe(null);
  });

  test("grant copy, from a grant and to it, within frames", async () => {
    const toy = await ToyMachine.boot();
    const one = await toy.start("granter", granter(xen.GTF.permit_access));
    await toy.run({ until: 5e6 });
    const p = begin(new Assembler());
    p.struct("from", xen.gnttab_copy, {
      source: { u: { ref: 9 }, domid: FIRST, offset: 0x10 },
      dest: { u: { gmfn: 0x20 }, domid: xen.DOMID.SELF, offset: 0xffc },
      len: 4,
      flags: xen.GNTCOPY.source_gref,
    });
    p.struct("to", xen.gnttab_copy, {
      source: { u: { gmfn: 0x20 }, domid: xen.DOMID.SELF, offset: 0xffc },
      dest: { u: { ref: 8 }, domid: FIRST, offset: 0x30 },
      len: 4,
      flags: xen.GNTCOPY.dest_gref,
    });
    p.struct("over", xen.gnttab_copy, {
      source: { u: { ref: 9 }, domid: FIRST, offset: 0xffd },
      dest: { u: { gmfn: 0x20 }, domid: xen.DOMID.SELF, offset: 0 },
      len: 4,
      flags: xen.GNTCOPY.source_gref,
    });
    for (const name of ["from", "to", "over"]) p.hypercall(H.grant_table_op, [GNTTABOP.copy, name, 1], `did ${name}`);
    const two = await toy.start("copier", p.shutdown());
    await toy.run({ end: [two] });
    const status = (name: string): number => toy.struct(two, name, xen.gnttab_copy).status;
    expect(["from", "to", "over"].map(status)).toEqual([GNTST.okay, GNTST.okay, GNTST.bad_copy_arg]);
    expect(toy.word(two, 0x20ffc)).toBe(0xabc9);
    expect(toy.word(one, 0x8030)).toBe(0xabc9);
    expect(one.domain.grants.activeCount).toBe(0);
  });
});
