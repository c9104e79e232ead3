/** Time as a toy guest sees it, and what a vCPU can do with its own: timers, block, poll, yield, shutdown, several vCPUs. */
import { describe, expect, test } from "vitest";
import * as xen from "../../../core/abi/index.ts";
import { RunState } from "../../../core/domain/vcpu.ts";
import { runStateTime } from "../../../core/scheduling/unit.ts";
import { TOY_ABI } from "./image.ts";
import { Assembler, ToyMachine } from "./machine.ts";
import { acknowledge, begin, count, SHARED, upcalls } from "./snippets.ts";

const H = xen.__HYPERVISOR;
const MS = 1e6;

/** Binds VIRQ_TIMER of a vCPU to a port. */
function bindTimer(p: Assembler, vcpu = 0): void {
  p.struct(`virq ${vcpu}`, xen.evtchn_bind_virq, { virq: xen.VIRQ.TIMER, vcpu });
  p.hypercall(H.event_channel_op, [xen.EVTCHNOP.bind_virq, `virq ${vcpu}`], `bound ${vcpu}`);
}

/** Stores the system time, 8 bytes. */
function stamp(p: Assembler, name: string): void {
  p.data(name, 8);
  p.rdtime(8).store(8, name).store(9, name, 4);
}
function time(toy: ToyMachine, guest: Parameters<ToyMachine["words"]>[0], name: string): number {
  const [hi, lo] = toy.words(guest, name, 2) as [number, number];
  return hi * 2 ** 32 + lo;
}

/** Blocks until the variable `what` has counted up to `to`. */
function blockUntil(p: Assembler, what: string, to: number): void {
  const again = p.fresh("again");
  const over = p.fresh("over");
  p.label(again).load(7, "shared").li(8, 1).sb(8, 7, SHARED.upcallMask);
  p.load(8, what).li(9, to).beq(8, 9, over);
  p.hypercall(H.sched_op, [xen.SCHEDOP.block]).jump(again);
  p.label(over).load(7, "shared").li(8, 0).sb(8, 7, SHARED.upcallMask);
}

describe("timers", () => {
  test("set_timer_op wakes a blocked vCPU at its time, 32 bits and 32 bits", async () => {
    const toy = await ToyMachine.boot();
    const p = begin(new Assembler());
    p.data("ticks", 4);
    bindTimer(p);
    upcalls(p, () => count(p, "ticks"));
    for (const [i, at] of [5 * MS, 6_000 * MS].entries()) {
      p.hypercall(H.set_timer_op, [at >>> 0, Math.floor(at / 2 ** 32)], `armed ${i}`);
      blockUntil(p, "ticks", i + 1);
      stamp(p, `woken ${i}`);
    }
    const guest = await toy.runProgram(p.shutdown());
    expect(toy.word(guest, "bound 0")).toBe(0);
    expect(time(toy, guest, "woken 0") - 5 * MS).toBeLessThan(100_000);
    expect(time(toy, guest, "woken 0")).toBeGreaterThanOrEqual(5 * MS);
    expect(time(toy, guest, "woken 1") - 6_000 * MS).toBeLessThan(100_000);
    expect(time(toy, guest, "woken 1")).toBeGreaterThanOrEqual(6_000 * MS);
    const vcpu = guest.domain.vcpus[0]!;
    expect(runStateTime(vcpu, RunState.blocked, toy.hypervisor.machine.now)).toBeGreaterThan(5_990 * MS);
  });

  test("singleshot, its past in the future flag, stop; periodic ticks while it runs", async () => {
    const toy = await ToyMachine.boot();
    const p = begin(new Assembler());
    p.data("ticks", 4);
    bindTimer(p);
    upcalls(p, () => count(p, "ticks"));
    const single = (name: string, at: number, flags = 0): void => {
      p.struct(name, xen.vcpu_set_singleshot_timer, { timeout_abs_ns: at, flags });
      p.hypercall(H.vcpu_op, [xen.VCPUOP.set_singleshot_timer, 0, name], `${name} result`);
    };
    single("soon", 2 * MS);
    blockUntil(p, "ticks", 1);
    single("late", 1 * MS, xen.VCPU_SSHOTTMR_future);
    single("stopped", 4 * MS);
    p.hypercall(H.vcpu_op, [xen.VCPUOP.stop_singleshot_timer, 0]);
    p.struct("period", xen.vcpu_set_periodic_timer, { period_ns: 3 * MS });
    p.hypercall(H.vcpu_op, [xen.VCPUOP.set_periodic_timer, 0, "period"], "period result");
    // 31 ms of running: ten ticks, and none of the timer that was stopped.
    p.loop(7, 400_000, () => p.addi(8, 8, 1));
    p.hypercall(H.vcpu_op, [xen.VCPUOP.stop_periodic_timer, 0]);
    p.load(8, "ticks").data("counted", 4);
    p.store(8, "counted");
    const guest = await toy.runProgram(p.shutdown());
    expect(toy.word(guest, "soon result")).toBe(0);
    expect(toy.word(guest, "late result")).toBe(-xen.ERRNO.ETIME);
    expect(toy.word(guest, "period result")).toBe(0);
    expect(toy.word(guest, "counted")).toBe(1 + 10);
  });

  test("the clock in vcpu_info and the wall clock are in the guest's byte order", async () => {
    const toy = await ToyMachine.boot({ wallclockAtZero: 1_700_000_000e9 });
    const guest = await toy.runProgram(begin(new Assembler()).shutdown());
    const shared = toy.words(guest, "shared", 1)[0]!;
    const info = toy.struct(guest, shared + SHARED.time, xen.vcpu_time_info);
    expect([info.version % 2, info.tsc_to_system_mul, info.tsc_shift]).toEqual([0, 0x80000000, 1]);
    expect(toy.words(guest, shared + SHARED.wallclock, 1)).toEqual([1_700_000_000]);
  });
});

describe("giving way and ending", () => {
  test("poll: a timeout, a pending port, a bad port, too many", async () => {
    const toy = await ToyMachine.boot();
    const p = begin(new Assembler());
    const poll = (name: string, nr_ports: number, timeout: number, port: string): void => {
      p.struct(name, xen.sched_poll, { nr_ports, timeout });
      p.pointer(name, xen.sched_poll.at(TOY_ABI).fields.ports.offset, port);
      p.hypercall(H.sched_op, [xen.SCHEDOP.poll, name], `${name} result`);
    };
    p.words("bad port", 4000);
    acknowledge(p);
    poll("timeout", 1, 3 * MS, "store port");
    stamp(p, "after");
    poll("bad", 1, 0, "bad port");
    poll("many", 129, 0, "store port");
    p.struct("ipi", xen.evtchn_bind_ipi, { vcpu: 0 });
    p.hypercall(H.event_channel_op, [xen.EVTCHNOP.bind_ipi, "ipi"]);
    p.data("port", 4);
    p.load(8, "ipi", 4).store(8, "port");
    p.hypercall(H.event_channel_op, [xen.EVTCHNOP.send, "port"]);
    poll("pending", 1, 0, "port");
    const guest = await toy.runProgram(p.shutdown());
    expect(["timeout", "bad", "many", "pending"].map((name) => toy.word(guest, `${name} result`))).toEqual([
      0,
      -xen.ERRNO.EINVAL,
      -xen.ERRNO.EINVAL,
      0,
    ]);
    expect(time(toy, guest, "after")).toBeGreaterThanOrEqual(3 * MS);
    expect(time(toy, guest, "after")).toBeLessThan(3.1 * MS);
  });

  test("yield lets another domain go first, and comes back", async () => {
    const toy = await ToyMachine.boot();
    const switches: string[] = [];
    const other = new Assembler().label("spin").addi(8, 8, 1).jump("spin");
    const p = begin(new Assembler());
    p.loop(7, 5, () => p.hypercall(H.sched_op, [xen.SCHEDOP.yield], undefined));
    const one = await toy.create("yields", p.shutdown());
    const two = await toy.create("spins", other);
    toy.hypervisor.scheduling.onSwitch = wrap(toy.hypervisor.scheduling.onSwitch, (_previous, next) =>
      switches.push(next?.domain.name ?? "-"),
    );
    toy.hypervisor.unpause(one.domain);
    toy.hypervisor.unpause(two.domain);
    expect(await toy.run({ end: [one] })).toBe("done");
    expect(switches.filter((name) => name === "spins").length).toBeGreaterThanOrEqual(5);
  });

  test.each([
    ["poweroff", 0, 0],
    ["reboot", 1, 1],
    ["crash", 3, 3],
    ["watchdog", 4, 4],
    ["soft reset", 5, 5],
    ["a reason that nobody knows", 77, 3],
  ])("shutdown: %s", async (_name, reason, expected) => {
    const told: number[] = [];
    const toy = await ToyMachine.boot({
      apply: ({ hooks }) => hooks.domainShutdown.tap("test", (_domain, why) => void told.push(why)),
    });
    const guest = await toy.runProgram(new Assembler().shutdown(reason));
    expect(guest.domain.shutdownReason).toBe(expected);
    await toy.run();
    expect(told).toEqual([expected]);
    expect(guest.domain.vcpus.every((vcpu) => vcpu.runStateTimes[RunState.running] > 0)).toBe(true);
  });

  test("a suspend is refused with 1; shutdown_code rules over a later reason", async () => {
    const toy = await ToyMachine.boot();
    const p = new Assembler();
    p.struct("suspend", xen.sched_shutdown, { reason: xen.SHUTDOWN.suspend });
    p.struct("code", xen.sched_shutdown, { reason: xen.SHUTDOWN.reboot });
    p.hypercall(H.sched_op, [xen.SCHEDOP.shutdown, "suspend"], "suspended");
    p.hypercall(H.sched_op, [xen.SCHEDOP.shutdown_code, "code"], "coded");
    const guest = await toy.runProgram(p.shutdown(xen.SHUTDOWN.poweroff));
    expect([toy.word(guest, "suspended"), toy.word(guest, "coded")]).toEqual([1, 0]);
    expect(guest.domain.shutdownReason).toBe(xen.SHUTDOWN.reboot);
  });

  test("a crash of one domain leaves the other running", async () => {
    const toy = await ToyMachine.boot();
    const bad = await toy.start("bad", new Assembler().raw(0));
    const good = await toy.start("good", new Assembler().loop(7, 1000, () => {}).shutdown());
    expect(await toy.run({ end: [bad, good] })).toBe("done");
    expect(bad.domain.crashMessage).toBe("no such instruction 0x0 at pc 0x2000");
    expect(bad.domain.shutdownReason).toBe(xen.SHUTDOWN.crash);
    expect(good.domain.shutdownReason).toBe(xen.SHUTDOWN.poweroff);
  });
});

describe("two vCPUs", () => {
  const program = (): Assembler => {
    const p = begin(new Assembler());
    // Context of vCPU 1: pc, no upcalls, registers.
    p.words("context", ...new Array<number>(18).fill(0));
    p.pointer("context", 0, "secondary");
    const up = (name: string): void => {
      p.hypercall(H.vcpu_op, [name === "is up" ? xen.VCPUOP.is_up : xen.VCPUOP.up, 1], name);
    };
    up("too early");
    p.hypercall(H.vcpu_op, [xen.VCPUOP.initialise, 1, "context"], "without info");
    // vCPU 1 has no place in shared info (legacyVcpus is 1): it gets one in a page of the guest's.
    p.struct("info", xen.vcpu_register_vcpu_info, { mfn: 0x20, offset: 0x40 });
    p.hypercall(H.vcpu_op, [xen.VCPUOP.register_vcpu_info, 1, "info"], "info result");
    p.hypercall(H.vcpu_op, [xen.VCPUOP.initialise, 1, 0x7000_0000], "bad context");
    p.hypercall(H.vcpu_op, [xen.VCPUOP.initialise, 1, "context"], "initialised");
    p.hypercall(H.vcpu_op, [xen.VCPUOP.initialise, 1, "context"], "twice");
    p.hypercall(H.vcpu_op, [xen.VCPUOP.up, 9], "no such");
    p.data("flag", 4);
    up("up");
    p.label("wait").load(8, "flag").li(9, 0).beq(8, 9, "wait");
    // vCPU 1 has gone down when is_up says 0.
    p.label("gone").hypercall(H.vcpu_op, [xen.VCPUOP.is_up, 1]).li(8, 0).bne(0, 8, "gone");
    p.hypercall(H.vcpu_op, [xen.VCPUOP.up, 1], "up again");
    p.label("second").load(8, "flag").li(9, 2).bne(8, 9, "second").shutdown();
    p.label("secondary");
    count(p, "flag");
    p.hypercall(H.vcpu_op, [xen.VCPUOP.down, 1]);
    count(p, "flag");
    p.label("rest").halt().jump("rest");
    return p;
  };

  test.each([1, 2])("up, down and up again on %i pCPUs", async (pcpus) => {
    const toy = await ToyMachine.boot({ pcpus });
    const guest = await toy.runProgram(program(), { vcpus: 2 });
    const { ERRNO } = xen;
    const results = [
      "too early",
      "without info",
      "info result",
      "bad context",
      "initialised",
      "twice",
      "no such",
      "up",
    ];
    expect(results.map((name) => toy.word(guest, name))).toEqual([
      -ERRNO.EINVAL,
      -ERRNO.EINVAL,
      0,
      -ERRNO.EFAULT,
      0,
      -ERRNO.EEXIST,
      -ERRNO.ENOENT,
      0,
    ]);
    expect(toy.word(guest, "flag")).toBe(2);
    const now = Math.max(...toy.hypervisor.machine.pcpus.map((pcpu) => pcpu.clock), toy.hypervisor.machine.now);
    for (const vcpu of guest.domain.vcpus) {
      const total = [0, 1, 2, 3].reduce((sum, state) => sum + runStateTime(vcpu, state as RunState, now), 0);
      expect(total).toBe(now);
    }
  });

  test("the last vCPU that goes down powers the domain off", async () => {
    const toy = await ToyMachine.boot();
    const p = new Assembler().hypercall(H.vcpu_op, [xen.VCPUOP.down, 0]).label("end").jump("end");
    const guest = await toy.runProgram(p, { vcpus: 2 });
    expect(guest.domain.shutdownReason).toBe(xen.SHUTDOWN.poweroff);
  });

  test("time that one vCPU reads is never below what another has read", async () => {
    const toy = await ToyMachine.boot({ pcpus: 2 });
    const p = begin(new Assembler());
    p.words("context", ...new Array<number>(18).fill(0));
    p.pointer("context", 0, "secondary");
    p.struct("info", xen.vcpu_register_vcpu_info, { mfn: 0x20, offset: 0 });
    p.data("last", 4);
    p.data("backwards", 4);
    p.data("finished", 4);
    p.hypercall(H.vcpu_op, [xen.VCPUOP.register_vcpu_info, 1, "info"]);
    p.hypercall(H.vcpu_op, [xen.VCPUOP.initialise, 1, "context"]);
    p.hypercall(H.vcpu_op, [xen.VCPUOP.up, 1]);
    const read = (end: string): void => {
      // The low word is enough: the test ends before it wraps.
      p.loop(7, 3000, () => {
        const fine = p.fresh("fine");
        p.load(4, "last").rdtime(2).bltu(4, 3, fine).beq(4, 3, fine).load(5, "backwards").addi(5, 5, 1);
        p.store(5, "backwards").label(fine).store(3, "last");
      });
      p.load(5, "finished").addi(5, 5, 1).store(5, "finished").label(end);
    };
    read("one done");
    p.label("both").load(5, "finished").li(6, 2).bne(5, 6, "both").shutdown();
    p.label("secondary");
    read("two done");
    p.jump("two done");
    const guest = await toy.runProgram(p, { vcpus: 2 });
    expect(toy.word(guest, "backwards")).toBe(0);
    expect(toy.word(guest, "finished")).toBe(2);
  });
});

function wrap<A extends unknown[]>(inner: (...args: A) => void, before: (...args: A) => void): (...args: A) => void {
  return (...args) => {
    before(...args);
    inner(...args);
  };
}
