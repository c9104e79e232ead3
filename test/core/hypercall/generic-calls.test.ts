import { describe, expect, it } from "vitest";
import {
  __HYPERVISOR,
  type Abi,
  DOMID,
  ERRNO,
  EVTCHNOP,
  evtchn_alloc_unbound,
  evtchn_bind_ipi,
  evtchn_op,
  evtchn_send,
  evtchn_status,
  type FieldSpecs,
  multicall_entry,
  SCHEDOP,
  type Struct,
  sched_poll,
  sched_shutdown,
  VCPUOP,
  VIRQ,
  VMASST_TYPE,
  vcpu_register_runstate_memory_area,
  vcpu_register_vcpu_info,
  vcpu_runstate_info,
  vcpu_set_periodic_timer,
  vcpu_set_singleshot_timer,
  vcpu_time_info,
  XENVER,
  xen_feature_info,
} from "../../../core/abi/index.ts";
import { PauseFlag, RunState } from "../../../core/domain/vcpu.ts";
import { type HypercallTable, Result } from "../../../core/hypercall/table.ts";
import { FRAME_SIZE, FrameType } from "../../../core/machine/frames.ts";
import { FAKE_ABIS, type Guest, makeWorld } from "../../support/fake-arch.ts";

const CALL = __HYPERVISOR;

/** Puts a structure into guest memory. */
function put<F extends FieldSpecs>(guest: Guest, type: Struct<F>, values: object): number {
  const layout = type.at(guest.abi as Abi);
  const at = guest.allocate(layout.size);
  const view = new DataView(new ArrayBuffer(layout.size));
  layout.write(view, 0, values as never);
  guest.poke(at, new Uint8Array(view.buffer));
  return at;
}

function get<F extends FieldSpecs>(guest: Guest, type: Struct<F>, at: number) {
  const layout = type.at(guest.abi as Abi);
  return layout.read(guest.peek(at, layout.size), 0);
}

describe.each(FAKE_ABIS)("generic hypercalls of $name", (abi) => {
  it("event_channel_op goes through guest memory, its compat form too", () => {
    const { guests } = makeWorld({ abi, guests: 2 });
    const [a] = guests as [Guest, Guest];
    const alloc = put(a, evtchn_alloc_unbound, { dom: DOMID.SELF, remote_dom: 2 });
    expect(a.call(CALL.event_channel_op, EVTCHNOP.alloc_unbound, alloc)).toBe(0);
    expect(get(a, evtchn_alloc_unbound, alloc)).toMatchObject({ port: 1 });
    const status = put(a, evtchn_status, { dom: DOMID.SELF, port: 1 });
    expect(a.call(CALL.event_channel_op, EVTCHNOP.status, status)).toBe(0);
    expect(get(a, evtchn_status, status)).toMatchObject({ status: 1, u: { unbound: { dom: 2 } } });
    const foreign = put(a, evtchn_alloc_unbound, { dom: 2, remote_dom: 1 });
    expect(a.call(CALL.event_channel_op, EVTCHNOP.alloc_unbound, foreign)).toBe(-ERRNO.EPERM);
    const nobody = put(a, evtchn_alloc_unbound, { dom: 66, remote_dom: 1 });
    expect(a.call(CALL.event_channel_op, EVTCHNOP.alloc_unbound, nobody)).toBe(-ERRNO.ESRCH);
    expect(a.call(CALL.event_channel_op, EVTCHNOP.send, 0x7000_0000)).toBe(-ERRNO.EFAULT);
    for (const op of [EVTCHNOP.bind_pirq, 99]) expect(a.call(CALL.event_channel_op, op, alloc)).toBe(-ERRNO.ENOSYS);

    const compat = put(a, evtchn_op, { cmd: EVTCHNOP.bind_ipi, u: { bind_ipi: { vcpu: 0 } } });
    expect(a.call(CALL.event_channel_op_compat, compat)).toBe(0);
    expect(get(a, evtchn_op, compat)).toMatchObject({ u: { bind_ipi: { port: 2 } } });
    const late = put(a, evtchn_op, { cmd: EVTCHNOP.reset });
    expect(a.call(CALL.event_channel_op_compat, late)).toBe(-ERRNO.ENOSYS);
  });

  it("multicall makes each call and writes its result", () => {
    const { guests, machine } = makeWorld({ abi });
    const [a] = guests as [Guest];
    const ipi = put(a, evtchn_bind_ipi, { vcpu: 0 });
    const entry = multicall_entry.at(abi);
    const list = a.allocate(5 * entry.size);
    const calls = [
      [CALL.xen_version, XENVER.version, 0],
      [CALL.event_channel_op, EVTCHNOP.bind_ipi, ipi],
      [63, 0, 0],
      [CALL.multicall, list, 1],
      [CALL.sched_op, SCHEDOP.yield, 0],
    ];
    for (const [i, [op, ...args]] of calls.entries()) {
      const view = new DataView(new ArrayBuffer(entry.size));
      entry.write(view, 0, { op: op!, args });
      a.poke(list + i * entry.size, new Uint8Array(view.buffer));
    }
    machine.hooks.hypercall.tap("slow", () => machine.charge(400_000));
    expect(a.call(CALL.multicall, list, 5)).toBe(0);
    expect(a.continued).toBeGreaterThan(0);
    const results = calls.map((_, i) => entry.getLo(a.peek(list + i * entry.size, entry.size), 0, "result") | 0);
    expect(results).toEqual([0x40011, 0, -ERRNO.ENOSYS, -ERRNO.EINVAL, 0]);
    expect(get(a, evtchn_bind_ipi, ipi)).toMatchObject({ port: 1 });
    expect(a.call(CALL.multicall, 0x7fff_0000, 1)).toBe(-ERRNO.EFAULT);
    expect(a.call(CALL.multicall, 0, 0)).toBe(0);
  });

  it("xen_version says what it is", () => {
    const { guests } = makeWorld({ abi });
    const [a] = guests as [Guest];
    const at = a.allocate(1100);
    expect(a.call(CALL.xen_version, XENVER.version, 0)).toBe(0x40011);
    expect(a.call(CALL.xen_version, XENVER.extraversion, at)).toBe(0);
    expect(text(a, at, 16)).toBe(".0-hookvisor");
    expect(a.call(CALL.xen_version, XENVER.capabilities, at)).toBe(0);
    expect(text(a, at, 16)).toBe("fake-1.0");
    expect(a.call(CALL.xen_version, XENVER.guest_handle, at)).toBe(0);
    expect(a.peek(at, 16).getUint8(15)).toBe(1);
    expect(a.call(CALL.xen_version, XENVER.pagesize, 0)).toBe(2 ** abi.pageShift);
    expect(a.call(CALL.xen_version, XENVER.pagesize, at)).toBe(-ERRNO.EINVAL);
    expect(a.call(CALL.xen_version, XENVER.commandline, at)).toBe(0);
    expect(text(a, at, 16)).toBe("<denied>");
    const features = put(a, xen_feature_info, { submap_idx: 0 });
    expect(a.call(CALL.xen_version, XENVER.get_features, features)).toBe(0);
    expect(a.call(CALL.xen_version, XENVER.get_features, put(a, xen_feature_info, { submap_idx: 1 }))).toBe(
      -ERRNO.EINVAL,
    );
    for (const name of ["compile_info", "changeset", "platform_parameters"] as const)
      expect(a.call(CALL.xen_version, XENVER[name], at)).toBe(0);
    expect(a.call(CALL.xen_version, XENVER.extraversion, 0x7000_0000)).toBe(-ERRNO.EFAULT);
    expect(a.call(CALL.xen_version, 99, at)).toBe(-ERRNO.ENOSYS);
  });

  it("vcpu_op registers a vcpu_info with everything pending", () => {
    const { guests, machine } = makeWorld({ abi, vcpus: 2 });
    const [a] = guests as [Guest];
    const { domain } = a;
    const port = domain.events.bindIpi(0);
    domain.shared!.setUpcallMask(a.vcpu, true);
    const mfn = a.mfn(9);
    const ask = (offset: number, gfn = a.gfn(9), vcpu = 0): number =>
      a.call(CALL.vcpu_op, VCPUOP.register_vcpu_info, vcpu, put(a, vcpu_register_vcpu_info, { mfn: gfn, offset }));
    expect(ask(FRAME_SIZE - 32)).toBe(-ERRNO.ENXIO);
    expect(ask(64, 0x7fff_ffff)).toBe(-ERRNO.EINVAL);
    expect(ask(64, a.gfn(9), 5)).toBe(-ERRNO.ENOENT);
    expect(ask(64)).toBe(0);
    expect(a.vcpu.infoAddress).toBe(mfn * FRAME_SIZE + 64);
    expect(domain.shared!.upcallMask(a.vcpu)).toBe(true);
    expect(domain.shared!.upcallPending(a.vcpu)).toBe(true);
    expect(domain.shared!.select(a.vcpu, port)).toBe(true);
    expect(machine.frames.type[mfn]).toBe(FrameType.writable);
    const time = vcpu_time_info.at(abi);
    expect(time.get(a.peek(9 * FRAME_SIZE + 96, time.size), 0, "tsc_shift")).toBe(1);
    expect(ask(128)).toBe(-ERRNO.EINVAL);
    // A page table, or a vCPU that runs, cannot be used.
    machine.frames.getType(a.mfn(10), FrameType.firstArch);
    if (domain.vcpus[1]!.infoAddress >= 0) expect(ask(0, a.gfn(10), 1)).toBe(-ERRNO.EINVAL);
    expect(ask(0, a.gfn(11), 1)).toBe(0);
  });

  it("vcpu_op keeps runstates and timers", () => {
    const { guests, machine } = makeWorld({ abi });
    const [a] = guests as [Guest];
    const layout = vcpu_runstate_info.at(abi);
    const area = a.allocate(layout.size);
    a.vcpu.runState = RunState.running;
    machine.now = 9000;
    expect(a.call(CALL.vcpu_op, VCPUOP.get_runstate_info, 0, area)).toBe(0);
    expect(layout.getNumber(a.peek(area, layout.size), 0, "time", 0)).toBe(9000);
    const register = put(a, vcpu_register_runstate_memory_area, { addr: { h: area } });
    expect(a.call(CALL.vcpu_op, VCPUOP.register_runstate_memory_area, 0, register)).toBe(0);
    expect(layout.get(a.peek(area, layout.size), 0, "state")).toBe(RunState.running);

    const single = (timeout_abs_ns: number, flags: number): number =>
      a.call(
        CALL.vcpu_op,
        VCPUOP.set_singleshot_timer,
        0,
        put(a, vcpu_set_singleshot_timer, { timeout_abs_ns, flags }),
      );
    expect(single(8000, 1)).toBe(-ERRNO.ETIME);
    expect(single(8000, 0)).toBe(0);
    expect(machine.timers.next).toBe(9000);
    expect(single(20_000, 1)).toBe(0);
    expect(machine.timers.next).toBe(20_000);
    expect(a.call(CALL.vcpu_op, VCPUOP.stop_singleshot_timer, 0, 0)).toBe(0);
    expect(machine.timers.next).toBe(Infinity);
    for (const [period_ns, answer] of [
      [999, -ERRNO.EINVAL],
      [5e6, 0],
    ] as const)
      expect(a.call(CALL.vcpu_op, VCPUOP.set_periodic_timer, 0, put(a, vcpu_set_periodic_timer, { period_ns }))).toBe(
        answer,
      );
    expect(a.vcpu.periodicTimer.period).toBe(5e6);
    expect(a.call(CALL.vcpu_op, VCPUOP.stop_periodic_timer, 0, 0)).toBe(0);
    expect(a.vcpu.periodicTimer.period).toBe(0);
    expect(a.call(CALL.vcpu_op, VCPUOP.get_physid, 0, 0)).toBe(-ERRNO.EINVAL);
    expect(a.call(CALL.vcpu_op, VCPUOP.send_nmi, 0, 0)).toBe(-ERRNO.ENOSYS);
  });
});

function text(guest: Guest, at: number, length: number): string {
  const bytes = new Uint8Array(guest.peek(at, length).buffer);
  return String.fromCharCode(...bytes.subarray(0, bytes.indexOf(0)));
}

describe("sched_op", () => {
  it("block clears the mask, and does not wait for what is pending already", () => {
    const { guests } = makeWorld();
    const [a] = guests as [Guest];
    const { shared, events } = a.domain;
    shared!.setUpcallMask(a.vcpu, true);
    expect(a.call(CALL.sched_op, SCHEDOP.block)).toBe(0);
    expect(shared!.upcallMask(a.vcpu)).toBe(false);
    expect(a.vcpu.pauseFlags).toBe(PauseFlag.blocked);
    const port = events.bindIpi(0);
    events.send(port);
    expect(a.vcpu.pauseFlags).toBe(0);
    shared!.setUpcallMask(a.vcpu, true);
    expect(a.call(CALL.sched_op_compat, SCHEDOP.block, 0)).toBe(0);
    expect(a.vcpu.pauseFlags).toBe(0);
  });

  it("poll waits for a port even if it is masked, and no longer than its timeout", () => {
    const { guests, machine } = makeWorld();
    const [a] = guests as [Guest];
    const { shared, events } = a.domain;
    const port = events.bindIpi(0);
    const other = events.bindIpi(0);
    maskAll(a);
    const ports = a.allocate(16);
    a.poke(ports, Uint8Array.of(port, 0, 0, 0));
    const poll = (nr_ports: number, timeout: number, from = ports): number =>
      a.call(CALL.sched_op, SCHEDOP.poll, put(a, sched_poll, { ports: from, nr_ports, timeout }));
    expect(poll(129, 0)).toBe(-ERRNO.EINVAL);
    expect(poll(1, 0, 0x7000_0000)).toBe(-ERRNO.EFAULT);
    expect(poll(1, 5000)).toBe(0);
    expect(a.vcpu.pauseFlags).toBe(PauseFlag.polling);
    events.send(other);
    expect(a.vcpu.runnable).toBe(false);
    events.send(port);
    expect(a.vcpu.runnable).toBe(true);
    expect(machine.timers.next).toBe(Infinity);
    expect(poll(1, 5000)).toBe(0);
    expect(a.vcpu.runnable).toBe(true);
    shared!.clearPending(port);
    expect(poll(1, 5000)).toBe(0);
    expect(a.vcpu.runnable).toBe(false);
    machine.now = 5000;
    machine.timers.fireOne(5000);
    expect(a.vcpu.runnable).toBe(true);
    a.poke(ports, Uint8Array.of(0xff, 0xff));
    expect(poll(1, 0)).toBe(-ERRNO.EINVAL);
  });

  it("shutdown tells the reason; a suspend is cancelled", () => {
    const world = makeWorld();
    const [a] = world.guests as [Guest];
    const shutdown = (op: number, reason: number): number =>
      a.call(CALL.sched_op, op, put(a, sched_shutdown, { reason }));
    expect(shutdown(SCHEDOP.shutdown, 2)).toBe(1);
    expect(world.shutdowns).toEqual([]);
    expect(shutdown(SCHEDOP.shutdown, 1)).toBe(0);
    expect(shutdown(SCHEDOP.shutdown, 77)).toBe(0);
    expect(a.call(CALL.sched_op_compat, SCHEDOP.shutdown, 0)).toBe(0);
    expect(shutdown(SCHEDOP.shutdown_code, 3)).toBe(0);
    expect(shutdown(SCHEDOP.shutdown_code, 3)).toBe(-ERRNO.EINVAL);
    expect(shutdown(SCHEDOP.shutdown, 0)).toBe(0);
    expect(world.shutdowns.map((s) => s.reason)).toEqual([1, 3, 0, 3]);
    expect(a.call(CALL.sched_op, SCHEDOP.watchdog, 0)).toBe(-ERRNO.ENOSYS);
    expect(a.call(CALL.sched_op, SCHEDOP.pin_override, 0)).toBe(-ERRNO.EPERM);
  });

  it("the last vCPU that goes down powers off", () => {
    const world = makeWorld({ vcpus: 2 });
    const [a] = world.guests as [Guest];
    const [v0, v1] = a.domain.vcpus;
    expect(a.call(CALL.vcpu_op, VCPUOP.up, 1, 0)).toBe(-ERRNO.EINVAL);
    expect(a.call(CALL.vcpu_op, VCPUOP.initialise, 1, 0x7000_0000)).toBe(-ERRNO.EFAULT);
    expect(a.call(CALL.vcpu_op, VCPUOP.initialise, 1, FRAME_SIZE)).toBe(0);
    expect(a.call(CALL.vcpu_op, VCPUOP.initialise, 1, FRAME_SIZE)).toBe(-ERRNO.EEXIST);
    expect(a.call(CALL.vcpu_op, VCPUOP.is_up, 1, 0)).toBe(0);
    expect(a.call(CALL.vcpu_op, VCPUOP.up, 1, 0)).toBe(0);
    expect(a.call(CALL.vcpu_op, VCPUOP.is_up, 1, 0)).toBe(1);
    expect(a.call(CALL.vcpu_op, VCPUOP.down, 0, 0)).toBe(0);
    expect(v0!.runnable).toBe(false);
    expect(world.shutdowns).toEqual([]);
    expect(a.callOn(v1!, CALL.vcpu_op, VCPUOP.down, 1, 0)).toBe(0);
    expect(world.shutdowns).toEqual([{ domain: a.domain, reason: 0 }]);
  });

  it("set_timer_op raises VIRQ_TIMER", () => {
    const { guests, machine } = makeWorld();
    const [a] = guests as [Guest];
    const port = a.domain.events.bindVirq(VIRQ.TIMER, 0);
    expect(a.call(CALL.set_timer_op, 12_000_000_000)).toBe(0);
    expect(machine.timers.next).toBe(12_000_000_000);
    machine.timers.fireOne(12_000_000_000);
    expect(a.domain.shared!.isPending(port)).toBe(true);
    expect(a.call(CALL.set_timer_op, -5)).toBe(0);
    expect(machine.timers.next).toBe(100e6);
  });
});

function maskAll(guest: Guest): void {
  const { abi, domain, machine } = guest;
  const bitmap = abi.wordBytes ** 2 * 8;
  const at = domain.sharedInfo * FRAME_SIZE + abi.legacyVcpus * 64 + bitmap;
  machine.frames.bytes.fill(0xff, at, at + bitmap);
}

describe("the rest", () => {
  it("console_io writes to the domain's console and the log", () => {
    const world = makeWorld();
    const [a] = world.guests as [Guest];
    const written: number[] = [];
    a.domain.onConsoleWrite = (bytes) => written.push(...bytes);
    const line = new TextEncoder().encode(`${"x".repeat(150)}\nHello\tworld\u0007\n`);
    const at = a.allocate(line.length);
    a.poke(at, line);
    expect(a.call(CALL.console_io, 0, line.length, at)).toBe(0);
    expect(written).toEqual([...line]);
    expect(world.log).toEqual([`(d1) ${"x".repeat(150)}`, "(d1) Hello world"]);
    expect(a.call(CALL.console_io, 0, 5, 0x7000_0000)).toBe(-ERRNO.EFAULT);
    expect(a.call(CALL.console_io, 0, 0x9000_0000, at)).toBe(-ERRNO.EINVAL);
    expect(a.call(CALL.console_io, 1, 10, at)).toBe(0);
    a.domain.onConsoleRead = () => Uint8Array.of(72, 105);
    expect(a.call(CALL.console_io, 1, 10, at)).toBe(2);
    expect(a.peek(at, 2).getUint8(1)).toBe(105);
    expect(a.call(CALL.console_io, 1, 1, at)).toBe(1);
  });

  it("a long console_io is continued and loses nothing", () => {
    const { guests } = makeWorld({ frames: 64 });
    const [a] = guests as [Guest];
    let written = 0;
    a.domain.onConsoleWrite = (bytes) => {
      written += bytes.length;
    };
    expect(a.call(CALL.console_io, 0, 40 * FRAME_SIZE, FRAME_SIZE)).toBe(0);
    expect(a.continued).toBeGreaterThan(3);
    expect(written).toBe(40 * FRAME_SIZE);
  });

  it("vm_assist takes what the arch has", () => {
    const { guests } = makeWorld();
    const [a] = guests as [Guest];
    expect(a.call(CALL.vm_assist, 0, VMASST_TYPE.runstate_update_flag)).toBe(0);
    expect(a.domain.vmAssist).toBe(32);
    expect(a.call(CALL.vm_assist, 1, VMASST_TYPE.runstate_update_flag)).toBe(0);
    expect(a.domain.vmAssist).toBe(0);
    expect(a.call(CALL.vm_assist, 0, VMASST_TYPE.writable_pagetables)).toBe(-ERRNO.EINVAL);
    expect(a.call(CALL.vm_assist, 7, VMASST_TYPE.runstate_update_flag)).toBe(-ERRNO.ENOSYS);
  });

  it("refuses what only a privileged domain may ask, and knows no other", () => {
    const { guests } = makeWorld();
    const [a] = guests as [Guest];
    for (const name of ["platform_op", "sysctl", "domctl", "kexec_op", "dm_op"] as const)
      expect(a.call(CALL[name], 0, 0)).toBe(-ERRNO.EPERM);
    for (const name of ["xsm_op", "nmi_op", "tmem_op", "argo_op", "xenoprof_op", "hvm_op", "mmu_update"] as const)
      expect(a.call(CALL[name], 0, 0)).toBe(-ERRNO.ENOSYS);
    expect(a.call(1000)).toBe(-ERRNO.ENOSYS);
  });

  it("an arch adds calls and operations, and may replace the registers in one", () => {
    const world = makeWorld();
    const [a] = world.guests as [Guest];
    const tables: HypercallTable[] = [];
    world.machine.hooks.hypercalls.tap("arch", (table) => {
      tables.push(table);
      table.add(CALL.iret, "iret", () => Result.noReturn);
      table.group(CALL.memory_op).add(9, "memory_map", () => 99);
      expect(() => table.group(CALL.memory_op).add(6, "again", () => 0)).toThrow("populate_physmap");
      expect(() => table.add(CALL.sched_op, "again", () => 0)).toThrow("sched_op");
    });
    expect(a.call(CALL.memory_op, 9, 0)).toBe(99);
    expect(() => tables[0]!.add(60, "late", () => 0)).toThrow("sealed");
    expect(() => tables[0]!.group(CALL.memory_op).add(10_000, "late", () => 0)).toThrow("sealed");
    const entry = multicall_entry.at(a.abi);
    const list = a.allocate(2 * entry.size);
    for (const [i, op] of [CALL.iret, CALL.xen_version].entries()) {
      const view = new DataView(new ArrayBuffer(entry.size));
      entry.write(view, 0, { op, result: 7 });
      a.poke(list + i * entry.size, new Uint8Array(view.buffer));
    }
    expect(a.call(CALL.multicall, list, 2)).toBe(Result.noReturn);
    expect(entry.getLo(a.peek(list + entry.size, entry.size), 0, "result")).toBe(7);
    expect(a.call(CALL.event_channel_op, EVTCHNOP.send, put(a, evtchn_send, { port: 0 }))).toBe(-ERRNO.EINVAL);
  });
});
