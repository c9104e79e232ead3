import fc from "fast-check";
import { xen } from "hookvisor";
import { beforeEach, describe, expect, it } from "vitest";
import { FS, GS } from "../../../arch/x86-pv/cpu.ts";
import { TYPE_L4 } from "../../../arch/x86-pv/mm/pte.ts";
import { CONTINUED, pvCalls } from "./fake-call.ts";
import { Bench, OTHER, SELF } from "./fake-cpu.ts";

const { __HYPERVISOR: HC, CALLBACKTYPE, DOMID, ERRNO, MMUEXT, UVMF } = xen;

let b: Bench;
let buffer: number;
let space: ReturnType<Bench["space"]>;
let pv: ReturnType<typeof pvCalls>;

beforeEach(() => {
  b = new Bench();
  [buffer] = b.take(1) as [number];
  space = b.space([{ mfn: buffer }]);
  pv = pvCalls(b);
});

/** Puts 64-bit words into the buffer page, which is at address 0, from `offset` on. */
function put(offset: number, ...values: number[]): void {
  for (const [i, value] of values.entries()) {
    b.frames.view.setUint32(buffer * 4096 + offset + 8 * i, value >>> 0, true);
    b.frames.view.setUint32(buffer * 4096 + offset + 8 * i + 4, Math.floor(value / 2 ** 32) >>> 0, true);
  }
}

const word = (offset: number): number => b.frames.view.getUint32(buffer * 4096 + offset, true);

describe("mmu_update", () => {
  it("does a batch up to the first failure, and says how far it came", () => {
    const [page] = b.take(1) as [number];
    const entry = (i: number): number => space.l1 * 4096 + 8 * i;
    put(8, entry(7), page * 4096 + 7, entry(8), space.l1 * 4096 + 7, entry(9), page * 4096 + 7);
    expect(pv.call(HC.mmu_update, 8, 3, 0x800, DOMID.SELF)).toBe(-ERRNO.EBUSY);
    expect(word(0x800)).toBe(1);
    expect(b.tables.entryLo(space.l1, 7) >>> 12).toBe(page);
    expect(b.tables.entryLo(space.l1, 9)).toBe(0);
  });

  it("is preempted between entries and goes on where it was", () => {
    const entry = (i: number): number => space.l1 * 4096 + 8 * i;
    put(8, entry(7), 0x200, entry(8), 0x400, entry(9), 0x600);
    pv.fake.patience = 1;
    expect(pv.call(HC.mmu_update, 8, 3, 0x800, DOMID.SELF)).toBe(CONTINUED);
    expect([pv.fake.lo(0), pv.fake.lo(1)]).toEqual([8 + 32, 0x80000001]);
    expect(word(0x800)).toBe(2);
    pv.fake.patience = Infinity;
    expect(pv.call(HC.mmu_update, 8 + 32, 0x80000001, 0x800, DOMID.SELF)).toBe(0);
    expect(word(0x800)).toBe(3);
    expect([7, 8, 9].map((i) => b.tables.entryLo(space.l1, i))).toEqual([0x200, 0x400, 0x600]);
  });

  it("writes plain memory, and the machine-to-physical table of own frames only", () => {
    const [page] = b.take(1) as [number];
    const [foreign] = b.take(1, OTHER) as [number];
    put(8, page * 4096 + 16, 0x1234, page * 4096 + 1, 77);
    expect(pv.call(HC.mmu_update, 8, 2, 0, DOMID.SELF)).toBe(0);
    expect(b.tables.entryLo(page, 2)).toBe(0x1234);
    expect(b.frames.gfnOf[page]).toBe(77);
    put(8, foreign * 4096 + 1, 5);
    expect(pv.call(HC.mmu_update, 8, 1, 0, DOMID.SELF)).toBe(-ERRNO.EINVAL);
    put(8, foreign * 4096, 5);
    expect(pv.call(HC.mmu_update, 8, 1, 0, DOMID.SELF)).toBe(-ERRNO.EINVAL);
    put(8, page * 4096 + 4, 5);
    expect(pv.call(HC.mmu_update, 8, 1, 0, DOMID.SELF)).toBe(-ERRNO.ENOSYS);
  });

  it("for others: ESRCH, EPERM; DOMID_IO maps nothing", () => {
    const [page] = b.take(1) as [number];
    put(8, space.l1 * 4096 + 8 * 7, page * 4096 + 7);
    expect(pv.call(HC.mmu_update, 8, 1, 0, 99)).toBe(-ERRNO.ESRCH);
    expect(pv.call(HC.mmu_update, 8, 1, 0, SELF)).toBe(-ERRNO.ESRCH);
    expect(pv.call(HC.mmu_update, 8, 1, 0, OTHER)).toBe(-ERRNO.EPERM);
    expect(pv.call(HC.mmu_update, 8, 1, 0, DOMID.IO)).toBe(-ERRNO.EBUSY);
    expect(pv.call(HC.mmu_update, 8, 1, 0, DOMID.SELF + (OTHER + 1) * 65536)).toBe(-ERRNO.EPERM);
    expect(pv.call(HC.mmu_update, 8, 1, 0, DOMID.SELF + (SELF + 1) * 65536)).toBe(0);
  });
});

describe("update_va_mapping", () => {
  it("changes the entry of the present address space and flushes as asked", () => {
    const [page] = b.take(1) as [number];
    expect(pv.call(HC.update_va_mapping, 0x9000, page * 4096 + 7, UVMF.INVLPG)).toBe(0);
    expect(b.memory.frameAt(b.v.kernelRoot, 0x9000, 0, true)).toBe(page);
    expect(b.cpu.flushes).toBe(1);
    expect(pv.call(HC.update_va_mapping, 0x9000, 0, UVMF.TLB_FLUSH | UVMF.ALL)).toBe(0);
    expect(b.cpu.flushes).toBe(2);
    put(0x100, 1);
    expect(pv.call(HC.update_va_mapping, 0x9000, 0, UVMF.TLB_FLUSH | 0x100)).toBe(0);
    expect(b.cpu.flushes).toBe(3);
    expect(pv.call(HC.update_va_mapping, 0x9000, 0, UVMF.TLB_FLUSH | 0x100000)).toBe(-ERRNO.EFAULT);
    expect(pv.call(HC.update_va_mapping, 0x40000000, 0, 0)).toBe(-ERRNO.EINVAL);
    expect(pv.call(HC.update_va_mapping_otherdomain, 0x9000, page * 4096 + 7, 0, OTHER)).toBe(-ERRNO.EPERM);
  });
});

describe("mmuext_op", () => {
  const one = (command: number, arg1 = 0, arg2 = 0, foreign: number = DOMID.SELF): number => {
    put(8, command, arg1, arg2);
    return pv.call(HC.mmuext_op, 8, 1, 0, foreign);
  };

  it("pins, unpins, changes roots", () => {
    const [other] = b.take(1) as [number];
    expect(one(MMUEXT.PIN_L4_TABLE, other)).toBe(0);
    expect(one(MMUEXT.PIN_L4_TABLE, other)).toBe(-ERRNO.EINVAL);
    expect(one(MMUEXT.NEW_USER_BASEPTR, other)).toBe(0);
    expect(one(MMUEXT.UNPIN_TABLE, other)).toBe(0);
    expect(b.tables.isTable(other, TYPE_L4)).toBe(true);
    expect(one(MMUEXT.NEW_USER_BASEPTR, 0)).toBe(0);
    expect(b.tables.isTable(other, TYPE_L4)).toBe(false);
    expect(one(MMUEXT.NEW_BASEPTR, buffer)).toBe(-ERRNO.EINVAL);
    expect(one(MMUEXT.NEW_BASEPTR, 2 ** 40)).toBe(-ERRNO.EINVAL);
    expect(one(MMUEXT.NEW_BASEPTR, space.root, 0, DOMID.IO)).toBe(-ERRNO.EPERM);
  });

  it("clears and copies memory, but no page table", () => {
    const [page] = b.take(1) as [number];
    put(0x900, 42);
    expect(one(MMUEXT.COPY_PAGE, page, buffer)).toBe(0);
    expect(b.frames.view.getUint32(page * 4096 + 0x900, true)).toBe(42);
    expect(one(MMUEXT.CLEAR_PAGE, page)).toBe(0);
    expect(b.frames.page(page).every((byte) => byte === 0)).toBe(true);
    expect(one(MMUEXT.CLEAR_PAGE, space.l1)).toBe(-ERRNO.EINVAL);
    expect(one(MMUEXT.COPY_PAGE, page, 10 ** 6)).toBe(-ERRNO.EINVAL);
  });

  it("answers what is not to be had", () => {
    expect(one(MMUEXT.FLUSH_CACHE)).toBe(-ERRNO.EACCES);
    expect(one(MMUEXT.MARK_SUPER, buffer)).toBe(-ERRNO.EOPNOTSUPP);
    expect(one(14)).toBe(-ERRNO.ENOSYS);
    expect(one(99)).toBe(-ERRNO.ENOSYS);
    expect(one(MMUEXT.SET_LDT, 0x123, 5)).toBe(-ERRNO.EINVAL);
    expect(one(MMUEXT.SET_LDT, 0x1000, 8193)).toBe(-ERRNO.EINVAL);
    expect(one(MMUEXT.TLB_FLUSH_MULTI, 0, 0x100000)).toBe(-ERRNO.EINVAL);
    expect(one(MMUEXT.TLB_FLUSH_ALL)).toBe(0);
  });
});

describe("the rest", () => {
  it("set_trap_table reads to address 0, or clears", () => {
    // vector 14, flags 4, cs e033, address ffffffff81000000, as Linux hands it over
    put(0x100, 0xe033_0000 + 0x040e, 0x81000000, 0, 0);
    b.frames.view.setUint32(buffer * 4096 + 0x10c, 0xffffffff, true);
    expect(pv.call(HC.set_trap_table, 0x100)).toBe(0);
    expect([b.v.trapFlags[14], b.v.trapLo[14], b.v.trapHi[14]]).toEqual([4, 0x81000000, 0xffffffff]);
    expect(pv.call(HC.set_trap_table, 0)).toBe(0);
    expect(b.v.trapLo[14]).toBe(0);
    b.frames.view.setUint32(buffer * 4096 + 0x10c, 0x00008000, true);
    expect(pv.call(HC.set_trap_table, 0x100)).toBe(-ERRNO.EINVAL);
    expect(pv.call(HC.set_trap_table, 0xff8)).toBe(-ERRNO.EFAULT);
  });

  it("set_gdt and update_descriptor", () => {
    const [gdt] = b.take(1) as [number];
    put(8, gdt);
    expect(pv.call(HC.set_gdt, 8, 16)).toBe(0);
    expect(b.v.gdtFrames).toEqual([gdt]);
    expect(pv.call(HC.update_descriptor, gdt * 4096 + 8, 0x00cffa00 * 2 ** 32 + 0xffff)).toBe(0);
    expect(b.tables.entryHi(gdt, 1)).toBe(0x00cffa00);
    expect(pv.call(HC.update_descriptor, gdt * 4096 + 8, 0x00008900 * 2 ** 32)).toBe(-ERRNO.EINVAL);
    expect(pv.call(HC.update_descriptor, space.l1 * 4096, 0)).toBe(-ERRNO.EINVAL);
    expect(pv.call(HC.set_gdt, 8, 7169)).toBe(-ERRNO.EINVAL);
    put(8, space.l1);
    expect(pv.call(HC.set_gdt, 8, 1)).toBe(-ERRNO.EINVAL);
    expect(pv.call(HC.set_gdt, 0x100000, 1)).toBe(-ERRNO.EFAULT);
    expect(pv.call(HC.set_gdt, 0, 0)).toBe(0);
    expect(b.frames.typeCount[gdt]).toBe(0);
  });

  it("callbacks", () => {
    put(8, CALLBACKTYPE.syscall + 0x10000, 0x81001070);
    b.frames.view.setUint32(buffer * 4096 + 20, 0xffffffff, true);
    expect(pv.call(HC.callback_op, 0, 8)).toBe(0);
    expect(b.v.syscall).toEqual({ lo: 0x81001070, hi: 0xffffffff, mask: true });
    expect(pv.call(HC.callback_op, 1, 8)).toBe(-ERRNO.EINVAL);
    put(8, CALLBACKTYPE.nmi, 0x1000);
    expect(pv.call(HC.callback_op, 0, 8)).toBe(-ERRNO.ENOSYS);
    expect(pv.call(HC.set_callbacks, 1, 2, 3)).toBe(0);
    expect([b.v.event.lo, b.v.failsafe.lo, b.v.syscall.lo]).toEqual([1, 2, 3]);
  });

  it("segment bases: the user's GS waits until the mode changes", () => {
    expect(pv.call(HC.set_segment_base, 0, 0x7000)).toBe(0);
    expect(pv.call(HC.set_segment_base, 1, 0x8000)).toBe(0);
    expect(pv.call(HC.set_segment_base, 2, 0x9000)).toBe(0);
    expect([b.cpu.baseLo(FS), b.v.otherGsLo, b.cpu.baseLo(GS)]).toEqual([0x7000, 0x8000, 0x9000]);
    expect(pv.call(HC.set_segment_base, 0, 2 ** 47)).toBe(-ERRNO.EINVAL);
    expect(pv.call(HC.set_segment_base, 3, 0)).toBe(0);
    expect([b.v.otherGsLo, b.cpu.baseLo(GS)]).toEqual([0, 0x9000]);
    expect(pv.call(HC.set_segment_base, 4, 0)).toBe(-ERRNO.EINVAL);
  });

  it("debug registers, task switch, stack, IOPL", () => {
    expect(pv.call(HC.set_debugreg, 0, 0x1234)).toBe(0);
    expect(pv.call(HC.get_debugreg, 0)).toBe(0x1234);
    expect(pv.call(HC.set_debugreg, 4, 0)).toBe(-ERRNO.EINVAL);
    expect(pv.call(HC.get_debugreg, 8)).toBe(-ERRNO.EINVAL);
    expect(pv.call(HC.fpu_taskswitch, 1)).toBe(0);
    expect(b.cpu.taskSwitched).toBe(true);
    expect(pv.call(HC.stack_switch, 0xe02b, 0x5000)).toBe(0);
    expect(b.v.kernelSpLo).toBe(0x5000);
    put(8, 1);
    expect(pv.call(HC.physdev_op, xen.PHYSDEVOP.set_iopl, 8)).toBe(0);
    expect(b.v.iopl).toBe(1);
    put(8, 4);
    expect(pv.call(HC.physdev_op, xen.PHYSDEVOP.set_iopl, 8)).toBe(-ERRNO.EINVAL);
    expect(pv.call(HC.physdev_op, xen.PHYSDEVOP.map_pirq, 8)).toBe(-ERRNO.ENOSYS);
    put(0x10, xen.PHYSDEVOP.set_iopl, 2);
    expect(pv.call(HC.physdev_op_compat, 0x10)).toBe(0);
    expect(b.v.iopl).toBe(2);
  });

  it("memory_op: where the m2p is; no firmware map", () => {
    expect(pv.call(HC.memory_op, xen.XENMEM.machphys_mapping, 0x100)).toBe(0);
    expect([word(0x104), word(0x10c), word(0x110), word(0x114)]).toEqual([0xffff8000, 0xffff8040, 0xffffffff, 7]);
    expect(pv.call(HC.memory_op, xen.XENMEM.memory_map, 0x100)).toBe(-ERRNO.ENOSYS);
  });
});

describe("hostile arguments", () => {
  it("never throw, whatever the numbers and the memory behind them", () => {
    const number = fc.oneof(
      fc.nat(40),
      fc.nat(300).map((n) => n * 4096),
      fc.nat(0xfff),
      fc.constantFrom(0x7ff0, 0x7ff1, 0x80000000, 0xffffffff, 2 ** 47, 2 ** 52, 0xffff8000 * 2 ** 32),
    );
    const numbers = pv.table.list().map((entry) => entry.number);
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            fc.constantFrom(...numbers),
            fc.array(number, { maxLength: 6 }),
            fc.array(number, { maxLength: 24 }),
          ),
          {
            maxLength: 20,
          },
        ),
        (calls) => {
          const bench = new Bench();
          const [page] = bench.take(1) as [number];
          bench.space([{ mfn: page }]);
          const { call, fake } = pvCalls(bench);
          for (const [nr, args, memory] of calls) {
            // The guest writes its page while it may; a call may have made it a table.
            if (bench.memory.frameAt(bench.v.kernelRoot, 0, 0, true) === page)
              for (const [i, value] of memory.entries())
                bench.entry(page, i, value >>> 0, Math.floor(value / 2 ** 32) >>> 0);
            fake.patience = 50;
            expect(Number.isFinite(call(nr, ...args))).toBe(true);
          }
          bench.v.release();
          bench.tables.unpinAll(SELF);
          bench.frames.disown(SELF);
          expect(bench.frames.ownedBy(SELF)).toBe(0);
        },
      ),
      { numRuns: 300 },
    );
  });
});
