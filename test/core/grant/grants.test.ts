import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  __HYPERVISOR,
  ERRNO,
  GNTMAP,
  GNTST,
  GNTTABOP,
  GTF,
  gnttab_copy,
  gnttab_map_grant_ref,
  gnttab_query_size,
  gnttab_set_version,
  gnttab_setup_table,
  gnttab_swap_grant_ref,
  gnttab_transfer,
  gnttab_unmap_and_replace,
  gnttab_unmap_grant_ref,
  grant_entry_v1,
} from "../../../core/abi/index.ts";
import { GrantError } from "../../../core/grant/grant-error.ts";
import { FRAME_SIZE, FrameType } from "../../../core/machine/frames.ts";
import { FAKE_ABIS, type Guest, makeWorld, type WorldOptions } from "../../support/fake-arch.ts";

/** Where guests map others' frames: pages that buildDomain left free. */
const MAP_PAGE = 1000;

/** A world whose guests have set up their tables. */
function grantWorld(options: WorldOptions = {}) {
  const world = makeWorld({ guests: 2, ...options });
  for (const guest of world.guests) guest.domain.grants.grow(1);
  return { ...world, a: world.guests[0]!, b: world.guests[1]! };
}

/** Writes a shared entry, as the granting guest does. */
function grant(
  guest: Guest,
  ref: number,
  domid: number,
  page: number,
  flags: number = GTF.permit_access,
  ownTable = false,
): void {
  const layout = grant_entry_v1.at(guest.abi);
  const base = guest.domain.grants.frameAt(Math.floor(ref / 512)) * FRAME_SIZE + (ref % 512) * 8;
  layout.write(guest.machine.frames.view, base, {
    flags,
    domid,
    frame: ownTable ? guest.domain.grants.frameAt(0) : guest.gfn(page),
  });
}

function flagsOf(guest: Guest, ref: number): number {
  return guest.machine.frames.view.getUint16(
    guest.domain.grants.frameAt(0) * FRAME_SIZE + ref * 8,
    guest.abi.endian === "little",
  );
}

function map(guest: Guest, from: Guest, ref: number, flags: number, page = MAP_PAGE) {
  const layout = gnttab_map_grant_ref.at(guest.abi);
  const at = guest.allocate(layout.size);
  const view = new DataView(new ArrayBuffer(layout.size));
  layout.write(view, 0, { host_addr: page * FRAME_SIZE, flags, ref, dom: from.domain.id });
  guest.poke(at, new Uint8Array(view.buffer));
  expect(guest.call(__HYPERVISOR.grant_table_op, GNTTABOP.map_grant_ref, at, 1)).toBe(0);
  const back = guest.peek(at, layout.size);
  return {
    status: layout.get(back, 0, "status"),
    handle: layout.get(back, 0, "handle"),
    bus: layout.getNumber(back, 0, "dev_bus_addr"),
  };
}

function unmap(guest: Guest, handle: number, page = MAP_PAGE, bus = 0): number {
  const layout = gnttab_unmap_grant_ref.at(guest.abi);
  const at = guest.allocate(layout.size);
  const view = new DataView(new ArrayBuffer(layout.size));
  layout.write(view, 0, { host_addr: page * FRAME_SIZE, dev_bus_addr: bus, handle });
  guest.poke(at, new Uint8Array(view.buffer));
  expect(guest.call(__HYPERVISOR.grant_table_op, GNTTABOP.unmap_grant_ref, at, 1)).toBe(0);
  return layout.get(guest.peek(at, layout.size), 0, "status");
}

describe.each(FAKE_ABIS)("grants of $name", (abi) => {
  it.each([true, false])("maps, marks in use and unmaps (translated %s)", (translated) => {
    const { machine, a, b } = grantWorld({ abi, translated });
    const mfn = a.mfn(5);
    grant(a, 9, b.domain.id, 5);
    const { status, handle, bus } = map(b, a, 9, GNTMAP.host_map);
    expect(status).toBe(GNTST.okay);
    expect(bus).toBe(mfn * FRAME_SIZE);
    expect(flagsOf(a, 9)).toBe(GTF.permit_access | GTF.reading | GTF.writing);
    expect(machine.frames.refs[mfn]).toBe(2);
    expect(machine.frames.typeCount[mfn]).toBe(1);
    b.poke(MAP_PAGE * FRAME_SIZE, Uint8Array.of(1, 2, 3));
    expect(a.peek(5 * FRAME_SIZE, 3).getUint8(2)).toBe(3);
    expect(unmap(b, handle, MAP_PAGE + 1)).toBe(GNTST.general_error);
    expect(unmap(b, handle)).toBe(GNTST.okay);
    expect(unmap(b, handle)).toBe(GNTST.bad_handle);
    expect(flagsOf(a, 9)).toBe(GTF.permit_access);
    expect(machine.frames.refs[mfn]).toBe(1);
    expect(machine.frames.typeCount[mfn]).toBe(0);
    expect(a.domain.grants.activeCount).toBe(0);
  });

  it("copies within pages only", () => {
    const { a, b, machine } = grantWorld({ abi });
    grant(a, 8, b.domain.id, 6, GTF.permit_access | GTF.readonly);
    a.poke(6 * FRAME_SIZE + 100, Uint8Array.of(7, 8, 9));
    const layout = gnttab_copy.at(abi);
    const copy = (values: Parameters<typeof layout.write>[2]): number => {
      const at = b.allocate(layout.size);
      const view = new DataView(new ArrayBuffer(layout.size));
      layout.write(view, 0, values);
      b.poke(at, new Uint8Array(view.buffer));
      expect(b.call(__HYPERVISOR.grant_table_op, GNTTABOP.copy, at, 1)).toBe(0);
      return layout.get(b.peek(at, layout.size), 0, "status");
    };
    const source = { u: { ref: 8 }, domid: a.domain.id, offset: 100 };
    const dest = { u: { gmfn: b.gfn(7) }, domid: 0x7ff0, offset: 4093 };
    const written: number[][] = [];
    machine.frames.onWrite((...what) => written.push(what));
    expect(copy({ source, dest, len: 3, flags: 1 })).toBe(GNTST.okay);
    expect(b.peek(7 * FRAME_SIZE + 4093, 3).getUint8(2)).toBe(9);
    expect(written).toContainEqual([b.mfn(7), 4093, 4096]);
    expect(copy({ source, dest, len: 4, flags: 1 })).toBe(GNTST.bad_copy_arg);
    expect(copy({ source: { ...source, u: { ref: 4000 } }, dest, len: 1, flags: 1 })).toBe(GNTST.bad_gntref);
    expect(copy({ source: { ...source, domid: 77 }, dest, len: 1, flags: 1 })).toBe(GNTST.bad_domain);
    expect(copy({ source: { ...source, u: { gmfn: 3 } }, dest, len: 1, flags: 0 })).toBe(GNTST.permission_denied);
    // The grant is for reading only.
    expect(copy({ source: dest, dest: source, len: 1, flags: 2 })).toBe(GNTST.general_error);
    expect(flagsOf(a, 8)).toBe(GTF.permit_access | GTF.readonly);
    expect(machine.frames.refs[a.mfn(6)]).toBe(1);
  });

  it("answers setup, size and version as a Xen with version 1 only", () => {
    const { a } = grantWorld({ abi });
    const call = (op: number, at: number): number => a.call(__HYPERVISOR.grant_table_op, op, at, 1);
    const setup = gnttab_setup_table.at(abi);
    const list = a.allocate(64);
    const at = a.allocate(setup.size);
    const view = new DataView(new ArrayBuffer(setup.size));
    const ask = (dom: number, nr_frames: number): number => {
      setup.write(view, 0, { dom, nr_frames, frame_list: list });
      a.poke(at, new Uint8Array(view.buffer));
      expect(call(GNTTABOP.setup_table, at)).toBe(0);
      return setup.get(a.peek(at, setup.size), 0, "status");
    };
    expect(ask(0x7ff0, 3)).toBe(GNTST.okay);
    const little = abi.endian === "little";
    const frames = [0, 1, 2].map((i) => {
      const word = a.peek(list + i * abi.wordBytes, abi.wordBytes);
      return word.getUint32(abi.wordBytes === 8 && !little ? 4 : 0, little);
    });
    expect(frames).toEqual([0, 1, 2].map((i) => a.domain.grants.frameAt(i)));
    expect(ask(0x7ff0, 65)).toBe(GNTST.general_error);
    expect(ask(55, 1)).toBe(GNTST.bad_domain);
    expect(ask(2, 1)).toBe(GNTST.permission_denied);
    expect(a.call(__HYPERVISOR.grant_table_op, GNTTABOP.setup_table, at, 2)).toBe(-ERRNO.EINVAL);

    const size = gnttab_query_size.at(abi);
    const sizeAt = a.allocate(size.size);
    a.poke(sizeAt, new Uint8Array(structure(size, { dom: 0x7ff0 }).buffer));
    expect(call(GNTTABOP.query_size, sizeAt)).toBe(0);
    expect(size.read(a.peek(sizeAt, size.size), 0)).toMatchObject({ nr_frames: 3, max_nr_frames: 64, status: 0 });

    const version = gnttab_set_version.at(abi);
    const versionAt = a.allocate(version.size);
    for (const [asked, answer] of [
      [1, 0],
      [2, -ERRNO.ENOSYS],
      [3, -ERRNO.EINVAL],
    ] as const) {
      a.poke(versionAt, new Uint8Array(structure(version, { version: asked }).buffer));
      expect(call(GNTTABOP.set_version, versionAt)).toBe(answer);
      expect(version.get(a.peek(versionAt, version.size), 0, "version")).toBe(1);
    }
    expect(call(GNTTABOP.dump_table, at)).toBe(-ERRNO.ENOSYS);
    expect(call(99, at)).toBe(-ERRNO.ENOSYS);
    expect(a.call(__HYPERVISOR.grant_table_op, GNTTABOP.map_grant_ref, at, -1)).toBe(-ERRNO.EINVAL);
  });
});

function structure(
  layout: { size: number; write(view: DataView, base: number, values: never): void },
  values: object,
): DataView {
  const view = new DataView(new ArrayBuffer(layout.size));
  layout.write(view, 0, values as never);
  return view;
}

describe("what mapping refuses", () => {
  it.each([
    ["no kind of mapping", 0, 9, 1, GNTST.bad_gntref],
    ["an unknown domain", GNTMAP.host_map, 9, 42, GNTST.bad_domain],
    ["a reference past the table", GNTMAP.host_map, 512, 1, GNTST.bad_gntref],
    ["an entry that grants nothing", GNTMAP.host_map, 10, 1, GNTST.general_error],
    ["an entry for somebody else", GNTMAP.host_map, 11, 1, GNTST.general_error],
    ["writing what is granted for reading", GNTMAP.host_map, 12, 1, GNTST.general_error],
    ["a frame that is not the granter's", GNTMAP.host_map, 13, 1, GNTST.bad_page],
    ["writing a page table", GNTMAP.host_map, 14, 1, GNTST.general_error],
    ["an address that is taken", GNTMAP.host_map, 9, 1, GNTST.general_error],
  ])("%s", (what, flags, ref, dom, status) => {
    const { machine, a, b } = grantWorld();
    grant(a, 9, b.domain.id, 5);
    grant(a, 11, 7, 5);
    grant(a, 12, b.domain.id, 5, GTF.permit_access | GTF.readonly);
    grant(a, 13, b.domain.id, 5);
    machine.frames.view.setUint32(a.domain.grants.frameAt(0) * FRAME_SIZE + 13 * 8 + 4, b.mfn(3), true);
    grant(a, 14, b.domain.id, 6);
    machine.frames.getType(a.mfn(6), FrameType.firstArch);
    const before = machine.frames.refs.slice();
    const page = what.startsWith("an address") ? 3 : MAP_PAGE;
    const target = { domain: { id: dom } } as Guest;
    expect(map(b, target, ref, flags, page).status).toBe(status);
    expect([...machine.frames.refs]).toEqual([...before]);
    expect(a.domain.grants.activeCount).toBe(0);
    expect(flagsOf(a, ref % 512) & (GTF.reading | GTF.writing)).toBe(0);
  });

  it("reading a page table is allowed", () => {
    const { machine, a, b } = grantWorld();
    grant(a, 14, b.domain.id, 6);
    machine.frames.getType(a.mfn(6), FrameType.firstArch);
    expect(map(b, a, 14, GNTMAP.host_map | GNTMAP.readonly).status).toBe(GNTST.okay);
  });

  it("more pins than a counter holds", () => {
    const { a, b } = grantWorld();
    grant(a, 9, b.domain.id, 5);
    for (let i = 0; i < 128; i++) expect(map(b, a, 9, GNTMAP.host_map, MAP_PAGE + i).status).toBe(GNTST.okay);
    expect(map(b, a, 9, GNTMAP.host_map, MAP_PAGE + 128).status).toBe(GNTST.general_error);
  });
});

describe("other operations", () => {
  it("maps for devices too, and removes each mapping by its own address", () => {
    const { machine, a, b } = grantWorld();
    const mfn = a.mfn(5);
    grant(a, 9, b.domain.id, 5);
    const { handle } = map(b, a, 9, GNTMAP.host_map | GNTMAP.device_map);
    expect(machine.frames.refs[mfn]).toBe(3);
    expect(unmap(b, handle, 0, 12345)).toBe(GNTST.bad_dev_addr);
    expect(unmap(b, handle, 0, mfn * FRAME_SIZE)).toBe(GNTST.okay);
    expect(machine.frames.refs[mfn]).toBe(2);
    expect(flagsOf(a, 9) & GTF.writing).not.toBe(0);
    expect(unmap(b, handle)).toBe(GNTST.okay);
    expect(flagsOf(a, 9)).toBe(GTF.permit_access);
  });

  it("unmaps and replaces", () => {
    const { machine, a, b } = grantWorld();
    grant(a, 9, b.domain.id, 5);
    const { handle } = map(b, a, 9, GNTMAP.host_map);
    const moved = b.mfn(12);
    const layout = gnttab_unmap_and_replace.at(b.abi);
    const at = b.allocate(layout.size);
    const values = { host_addr: MAP_PAGE * FRAME_SIZE, new_addr: 12 * FRAME_SIZE, handle };
    b.poke(at, new Uint8Array(structure(layout, values).buffer));
    expect(b.call(__HYPERVISOR.grant_table_op, GNTTABOP.unmap_and_replace, at, 1)).toBe(0);
    expect(layout.get(b.peek(at, layout.size), 0, "status")).toBe(GNTST.okay);
    expect(b.mfn(MAP_PAGE)).toBe(moved);
    expect(machine.frames.refs[a.mfn(5)]).toBe(1);
  });

  it("swaps entries that nobody uses", () => {
    const { a, b } = grantWorld();
    grant(a, 9, b.domain.id, 5);
    expect(a.domain.grants.swap(9, 10)).toBe(GNTST.okay);
    expect(flagsOf(a, 9)).toBe(0);
    expect(map(b, a, 10, GNTMAP.host_map).status).toBe(GNTST.okay);
    const layout = gnttab_swap_grant_ref.at(a.abi);
    const at = a.allocate(3 * layout.size);
    for (const [i, [ref_a, ref_b]] of [
      [9, 10],
      [9, 5000],
      [3, 3],
    ].entries())
      a.poke(at + i * layout.size, new Uint8Array(structure(layout, { ref_a, ref_b }).buffer));
    expect(a.call(__HYPERVISOR.grant_table_op, GNTTABOP.swap_grant_ref, at, 3)).toBe(0);
    const back = a.peek(at, 3 * layout.size);
    expect([0, 1, 2].map((i) => layout.get(back, i * layout.size, "status"))).toEqual([
      GNTST.eagain,
      GNTST.bad_gntref,
      GNTST.okay,
    ]);
  });

  it("transfers a frame that nobody uses", () => {
    const { machine, a, b } = grantWorld();
    b.domain.maxFrames = 40;
    const mfn = a.mfn(20);
    grant(b, 9, a.domain.id, 0, GTF.accept_transfer);
    machine.frames.view.setUint32(b.domain.grants.frameAt(0) * FRAME_SIZE + 9 * 8 + 4, 777, true);
    const layout = gnttab_transfer.at(a.abi);
    const at = a.allocate(layout.size);
    const transfer = (): number => {
      a.poke(at, new Uint8Array(structure(layout, { mfn, domid: b.domain.id, ref: 9 }).buffer));
      expect(a.call(__HYPERVISOR.grant_table_op, GNTTABOP.transfer, at, 1)).toBe(0);
      return layout.get(a.peek(at, layout.size), 0, "status");
    };
    machine.frames.getRef(mfn, a.domain.id);
    expect(transfer()).toBe(GNTST.bad_page);
    machine.frames.putRef(mfn);
    expect(transfer()).toBe(GNTST.okay);
    expect(machine.frames.owns(b.domain.id, mfn)).toBe(true);
    expect(machine.frames.gfnOf[mfn]).toBe(777);
    const entry = grant_entry_v1.at(b.abi).read(machine.frames.view, b.domain.grants.frameAt(0) * FRAME_SIZE + 9 * 8);
    expect(entry).toMatchObject({
      flags: GTF.accept_transfer | GTF.transfer_committed | GTF.transfer_completed,
      frame: mfn,
    });
    expect(transfer()).toBe(GNTST.bad_page);
  });

  it("continues a long batch", () => {
    const { a, b, machine } = grantWorld();
    grant(a, 9, b.domain.id, 5);
    const layout = gnttab_map_grant_ref.at(b.abi);
    const count = 100;
    const at = b.allocate(count * layout.size);
    for (let i = 0; i < count; i++) {
      const values = { host_addr: (MAP_PAGE + i) * FRAME_SIZE, flags: GNTMAP.host_map, ref: 9, dom: a.domain.id };
      b.poke(at + i * layout.size, new Uint8Array(structure(layout, values).buffer));
    }
    machine.hooks.grantMap.tap("slow", () => machine.charge(100_000));
    expect(b.call(__HYPERVISOR.grant_table_op, GNTTABOP.map_grant_ref, at, count)).toBe(0);
    expect(b.continued).toBeGreaterThan(10);
    expect(a.domain.grants.active(9)?.hostWriters).toBe(count);
  });
});

describe("backends", () => {
  it("map grants all or none", () => {
    const { machine, a } = grantWorld();
    a.domain.grants.grantToBackend(0, a.gfn(4));
    a.domain.grants.grantToBackend(1, a.gfn(5));
    const before = machine.frames.refs.slice();
    expect(() => a.domain.grants.mapForBackend([0, 1, 2], "rw")).toThrow(GrantError);
    expect([...machine.frames.refs]).toEqual([...before]);
    for (const bad of [-1, 0.5, Number.NaN, 2 ** 32])
      expect(() => a.domain.grants.mapForBackend([bad], "ro")).toThrow(GrantError);
    const mapped = a.domain.grants.mapForBackend([0, 1], "rw");
    mapped.pages[1]!.set([1, 2, 3]);
    mapped.wrote(1, 0, 3);
    expect(a.peek(5 * FRAME_SIZE, 3).getUint8(2)).toBe(3);
    mapped.unmap();
    mapped.unmap();
    expect([...machine.frames.refs]).toEqual([...before]);
  });

  it("keep a dying domain's frames until they unmap", () => {
    const world = grantWorld();
    const { machine, a } = world;
    a.domain.grants.grantToBackend(0, a.gfn(4));
    const mapped = a.domain.grants.mapForBackend([0], "rw");
    mapped.pages[0]!.fill(42);
    world.destroy(a);
    expect(machine.frames.ownedBy(a.domain.id)).toBe(1);
    expect(mapped.pages[0]![7]).toBe(42);
    expect(() => a.domain.grants.mapForBackend([0], "rw")).toThrow(GrantError);
    mapped.unmap();
    expect(machine.frames.ownedBy(a.domain.id)).toBe(0);
  });
});

describe("reference counts", () => {
  it("return to nothing after any sequence of operations and the destruction of all", () => {
    const step = fc.record({
      by: fc.nat(2),
      from: fc.nat(2),
      op: fc.constantFrom("grant", "map", "unmap", "backend", "copy", "revoke", "destroy"),
      ref: fc.nat(3),
      flags: fc.nat(7),
      page: fc.nat(5),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
        const world = makeWorld({ guests: 3, frames: 8, memoryMiB: 1 });
        const { machine, guests } = world;
        const free = machine.frames.free;
        for (const guest of guests) guest.domain.grants.grow(1);
        const held: (() => void)[] = [];
        for (const { by, from, op, ref, flags, page } of steps) {
          const [me, other] = [guests[by]!, guests[from]!];
          if (me.domain.dying) continue;
          if (op === "grant")
            grant(me, ref, from === by ? 0 : other.domain.id, 2 + page, GTF.permit_access | (flags & 4), flags === 3);
          else if (op === "revoke") grant(me, ref, 0, 0, 0);
          else if (op === "map") map(me, other, ref, flags, MAP_PAGE + page);
          else if (op === "unmap") unmap(me, ref, MAP_PAGE + page, flags === 7 ? me.mfn(2) * FRAME_SIZE : 0);
          else if (op === "backend") {
            try {
              held.push(me.domain.grants.mapForBackend([ref], flags & 1 ? "ro" : "rw").unmap);
            } catch (error) {
              expect(error).toBeInstanceOf(GrantError);
            }
          } else if (op === "destroy" && flags === 0) world.destroy(me);
        }
        for (const guest of guests) if (!guest.domain.dying) world.destroy(guest);
        for (const unmapIt of held) unmapIt();
        for (const guest of guests) {
          expect(guest.domain.grants.activeCount).toBe(0);
          expect(machine.frames.ownedBy(guest.domain.id)).toBe(0);
        }
        expect(machine.frames.free).toBe(free + 3 * 9);
        expect(machine.frames.refs.every((count) => count === 0)).toBe(true);
        expect(machine.frames.typeCount.every((count) => count === 0)).toBe(true);
      }),
      { numRuns: 80 },
    );
  });
});
