/** Reservations, the physmap, multicalls and hostile pointers of a 32-bit big-endian guest. */
import { describe, expect, test } from "vitest";
import * as xen from "../../../core/abi/index.ts";
import { TOY_ABI } from "./image.ts";
import { Assembler, ToyMachine } from "./machine.ts";
import { begin } from "./snippets.ts";

const H = xen.__HYPERVISOR;
const { XENMEM, ERRNO } = xen;
/** Behind memory and shared info, where nothing is. */
const HOLE = 0x40_0000;

/** A reservation of extents whose list is at a label. */
function reservation(p: Assembler, name: string, extents: readonly number[], order = 0): void {
  p.words(`${name} list`, ...extents);
  p.struct(name, xen.xen_memory_reservation, {
    nr_extents: extents.length,
    extent_order: order,
    domid: xen.DOMID.SELF,
  });
  p.pointer(name, xen.xen_memory_reservation.at(TOY_ABI).fields.extent_start.offset, `${name} list`);
}

describe("memory_op", () => {
  test("decrease gives frames back, populate brings fresh ones, at most what the domain may have", async () => {
    const toy = await ToyMachine.boot();
    const p = begin(new Assembler());
    reservation(p, "decrease", [0x30, 0x31, 0x35]);
    reservation(p, "again", [0x30]);
    reservation(p, "populate", [HOLE / 4096, HOLE / 4096 + 1]);
    reservation(p, "greedy", [HOLE / 4096 + 8, HOLE / 4096 + 9]);
    reservation(p, "increase", [0]);
    p.struct("self", xen.xen_memory_domain, { domid: xen.DOMID.SELF });
    const size = (name: string): Assembler => p.hypercall(H.memory_op, [XENMEM.current_reservation, "self"], name);
    size("before");
    p.hypercall(H.memory_op, [XENMEM.decrease_reservation, "decrease"], "decreased");
    size("less");
    p.hypercall(H.memory_op, [XENMEM.decrease_reservation, "again"], "not there");
    p.hypercall(H.memory_op, [XENMEM.populate_physmap, "populate"], "populated");
    p.li(8, 0x1234).li(9, HOLE).lw(7, 9).sw(8, 9, 0x1ffc).lw(8, 9, 0x1ffc).data("got", 8);
    p.store(7, "got").store(8, "got", 4);
    p.hypercall(H.memory_op, [XENMEM.populate_physmap, "greedy"], "greedy result");
    p.hypercall(H.memory_op, [XENMEM.increase_reservation, "increase"], "increased");
    size("after");
    p.hypercall(H.memory_op, [XENMEM.maximum_reservation, "self"], "most");
    const { frames } = toy.hypervisor.machine;
    const guest = await toy.create("memory", p.shutdown());
    const free = frames.free;
    toy.hypervisor.unpause(guest.domain);
    expect(await toy.run({ end: [guest] })).toBe("done");
    const results = ["before", "decreased", "less", "not there", "populated", "greedy result", "increased", "after"];
    expect(results.map((name) => toy.word(guest, name))).toEqual([256, 3, 253, 0, 2, 1, 0, 256]);
    expect(toy.word(guest, "most")).toBe(256);
    expect(toy.words(guest, "got", 2)).toEqual([0, 0x1234]);
    expect(frames.free).toBe(free);
    await toy.hypervisor.destroyDomain(guest.domain);
  });

  test("shared info cannot be given back; a ring page can, and is free when its users are done", async () => {
    const toy = await ToyMachine.boot();
    const p = begin(new Assembler());
    reservation(p, "rings", [255]);
    reservation(p, "shared info", [256 + 16]);
    p.hypercall(H.memory_op, [XENMEM.decrease_reservation, "rings"], "ring");
    p.hypercall(H.memory_op, [XENMEM.decrease_reservation, "shared info"], "info");
    const guest = await toy.runProgram(p.shutdown());
    expect(toy.word(guest, "info")).toBe(0);
    expect(guest.domain.arch!.gfnToMfn(guest.domain, 256 + 16)).toBe(guest.domain.sharedInfo);
    await toy.hypervisor.destroyDomain(guest.domain);
    expect(toy.hypervisor.machine.frames.free).toBe(16 * 256);
  });

  test("shared info at another place; a frame moved within the physmap", async () => {
    const toy = await ToyMachine.boot();
    const p = begin(new Assembler());
    const add = (name: string, space: number, idx: number, gpfn: number): void => {
      p.struct(name, xen.xen_add_to_physmap, { domid: xen.DOMID.SELF, space, idx, gpfn });
      p.hypercall(H.memory_op, [XENMEM.add_to_physmap, name], `${name} result`);
    };
    p.li(9, 0x30000).li(8, 0xbeef).sw(8, 9);
    add("shared info", xen.XENMAPSPACE.shared_info, 0, HOLE / 4096);
    add("moved", xen.XENMAPSPACE.gmfn, 0x30, HOLE / 4096 + 1);
    add("wild", xen.XENMAPSPACE.gmfn, 0x7000, HOLE / 4096 + 2);
    add("foreign", xen.XENMAPSPACE.gmfn_foreign, 0, HOLE / 4096 + 2);
    p.struct("remove", xen.xen_remove_from_physmap, { domid: xen.DOMID.SELF, gpfn: 0x31 });
    p.hypercall(H.memory_op, [XENMEM.remove_from_physmap, "remove"], "removed");
    const guest = await toy.runProgram(p.shutdown());
    const results = ["shared info result", "moved result", "wild result", "foreign result", "removed"];
    expect(results.map((name) => toy.word(guest, name))).toEqual([0, 0, -ERRNO.EINVAL, -ERRNO.ENOSYS, 0]);
    expect(toy.word(guest, HOLE + 0x1000)).toBe(0xbeef);
    expect(guest.domain.arch!.gfnToMfn(guest.domain, HOLE / 4096)).toBe(guest.domain.sharedInfo);
    expect(() => toy.word(guest, 0x31000)).toThrow();
    await toy.hypervisor.destroyDomain(guest.domain);
    expect(toy.hypervisor.machine.frames.free).toBe(16 * 256);
  });

  test("a long list is preempted, continued, and costs its time", async () => {
    const toy = await ToyMachine.boot();
    const p = begin(new Assembler());
    const list = Array.from({ length: 150 }, (_, i) => 0x40 + i);
    reservation(p, "decrease", list);
    p.hypercall(H.memory_op, [XENMEM.decrease_reservation, "decrease"], "decreased");
    let calls = 0;
    const guest = await toy.create("long", p.shutdown());
    const { arch } = guest.domain;
    const inner = arch!.continueHypercall.bind(arch);
    arch!.continueHypercall = (...args) => {
      calls++;
      inner(...args);
    };
    toy.hypervisor.unpause(guest.domain);
    expect(await toy.run({ end: [guest] })).toBe("done");
    expect(toy.word(guest, "decreased")).toBe(150);
    expect(calls).toBeGreaterThanOrEqual(2);
    expect(toy.hypervisor.machine.now).toBeGreaterThan(150 * 400 * 20);
  });
});

describe("multicall", () => {
  test("results are written in place, as the guest's words; unknown calls answer ENOSYS", async () => {
    const toy = await ToyMachine.boot();
    const p = begin(new Assembler());
    const layout = xen.multicall_entry.at(TOY_ABI);
    const entries = [
      { op: H.xen_version, args: [xen.XENVER.version] },
      { op: H.xen_version, args: [xen.XENVER.pagesize] },
      { op: 63, args: [] },
      { op: H.multicall, args: [] },
      { op: H.sched_op, args: [xen.SCHEDOP.yield] },
    ];
    const bytes = new Uint8Array(layout.size * entries.length);
    entries.forEach(({ op, args }, i) => {
      layout.write(new DataView(bytes.buffer), i * layout.size, { op, args, result: 0x5555 });
    });
    p.data("calls", bytes);
    p.hypercall(H.multicall, ["calls", entries.length], "result");
    p.hypercall(H.multicall, [0x7000_0000, 1], "bad");
    const guest = await toy.runProgram(p.shutdown());
    expect([toy.word(guest, "result"), toy.word(guest, "bad")]).toEqual([0, -ERRNO.EFAULT]);
    const view = toy.read(guest, "calls", bytes.length);
    expect(entries.map((_, i) => view.getInt32(i * layout.size + layout.fields.result.offset))).toEqual([
      0x40011,
      8192,
      -ERRNO.ENOSYS,
      -ERRNO.EINVAL,
      0,
    ]);
  });
});

describe("what a guest is told of the hypervisor", () => {
  test("version, capabilities, page size, and no such call", async () => {
    const toy = await ToyMachine.boot();
    const p = new Assembler();
    p.data("capabilities", xen.XEN_CAPABILITIES_INFO_LEN);
    p.hypercall(H.xen_version, [xen.XENVER.pagesize, 0], "page");
    p.hypercall(H.xen_version, [xen.XENVER.capabilities, "capabilities"], "told");
    p.hypercall(H.mmu_update, [], "pv only");
    p.hypercall(0xffff_ffff, [], "wild");
    const guest = await toy.runProgram(p.shutdown());
    expect(["page", "told", "pv only", "wild"].map((name) => toy.word(guest, name))).toEqual([
      8192,
      0,
      -ERRNO.ENOSYS,
      -ERRNO.ENOSYS,
    ]);
    expect(String.fromCharCode(...new Uint8Array(toy.read(guest, "capabilities", 7).buffer))).toBe("toy-1.0");
  });
});
