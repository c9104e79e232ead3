import { describe, expect, it } from "vitest";
import { VIRQ, VMASST_TYPE, vcpu_runstate_info, vcpu_time_info } from "../../../core/abi/index.ts";
import { RunState } from "../../../core/domain/vcpu.ts";
import { FAKE_ABIS, makeWorld } from "../../support/fake-arch.ts";

describe.each(FAKE_ABIS)("time of $name", (abi) => {
  it("gives a clock whose TSC counts nanoseconds", () => {
    const { machine, guests, timers } = makeWorld({ abi });
    const { domain, vcpu } = guests[0]!;
    machine.now = 123_456_789_012;
    timers.writeTime(vcpu);
    const layout = vcpu_time_info.at(abi);
    const at = vcpu.infoAddress + domain.shared!.timeOffset;
    const { view } = machine.frames;
    expect(layout.get(view, at, "version") % 2).toBe(0);
    expect(layout.getNumber(view, at, "system_time")).toBe(machine.now);
    expect(layout.getNumber(view, at, "tsc_timestamp")).toBe(machine.now);
    // ((delta << shift) * mul) >> 32 is delta.
    expect((2 ** layout.get(view, at, "tsc_shift") * layout.get(view, at, "tsc_to_system_mul")) / 2 ** 32).toBe(1);
  });

  it("writes the wall clock at system time 0", () => {
    const { machine, guests, timers } = makeWorld({ abi });
    timers.writeWallclock(guests[0]!.vcpu);
    const { view } = machine.frames;
    const at = guests[0]!.domain.sharedInfo * 4096 + abi.legacyVcpus * 64 + 16 * abi.wordBytes ** 2;
    const little = abi.endian === "little";
    expect(view.getUint32(at, little) % 2).toBe(0);
    expect(view.getUint32(at + 4, little)).toBe(1_767_225_600);
    expect(view.getUint32(at + 8, little)).toBe(0);
  });

  it("updates a registered runstate area", () => {
    const { machine, guests, timers } = makeWorld({ abi });
    const guest = guests[0]!;
    const layout = vcpu_runstate_info.at(abi);
    const area = guest.allocate(layout.size);
    const { vcpu } = guest;
    vcpu.runstateArea = { lo: area, hi: 0 };
    vcpu.runState = RunState.blocked;
    vcpu.runStateSince = 5000;
    vcpu.runStateTimes[RunState.running] = 3000;
    for (const assist of [0, 1 << VMASST_TYPE.runstate_update_flag]) {
      guest.domain.vmAssist = assist;
      guest.poke(area, new Uint8Array(layout.size).fill(0xee));
      timers.writeRunstate(vcpu);
      const view = guest.peek(area, layout.size);
      expect(layout.get(view, 0, "state")).toBe(RunState.blocked);
      expect(layout.getNumber(view, 0, "state_entry_time")).toBe(5000);
      expect(layout.getNumber(view, 0, "time", 0)).toBe(3000);
    }
    machine.now = 7000;
    const live = new DataView(new ArrayBuffer(64));
    timers.readRunstate(vcpu, live, true);
    expect(layout.getNumber(live, 0, "time", RunState.blocked)).toBe(2000);
  });
});

describe("timers", () => {
  it("ticks only while the vCPU runs, and collapses what was missed", () => {
    const { machine, guests, timers } = makeWorld();
    const { domain, vcpu } = guests[0]!;
    const port = domain.events.bindVirq(VIRQ.TIMER, 0);
    const pending = (): boolean => {
      const was = domain.shared!.isPending(port);
      domain.shared!.clearPending(port);
      return was;
    };
    machine.now = 45e6;
    expect(machine.timers.next).toBe(Infinity);
    vcpu.runningOn = machine.pcpus[0]!;
    timers.switched(null, vcpu);
    expect(pending()).toBe(true);
    expect(machine.timers.next).toBe(55e6);
    machine.now = 55e6;
    machine.timers.fireOne(machine.now);
    expect(pending()).toBe(true);
    expect(machine.timers.next).toBe(65e6);
    vcpu.runningOn = null;
    timers.switched(vcpu, null);
    expect(machine.timers.next).toBe(Infinity);
    timers.setPeriodic(vcpu, 0);
    timers.switched(null, vcpu);
    expect(machine.timers.next).toBe(Infinity);
  });

  it("fires set_timer_op once, and soon for times that wrapped", () => {
    const { machine, guests, timers } = makeWorld();
    const { vcpu } = guests[0]!;
    machine.now = 1000;
    timers.setTimerOp(vcpu, 5000);
    timers.setTimerOp(vcpu, 4000);
    expect(machine.timers.next).toBe(4000);
    timers.setTimerOp(vcpu, 0);
    expect(machine.timers.next).toBe(Infinity);
    for (const odd of [-1, 2 ** 60]) {
      timers.setTimerOp(vcpu, odd);
      expect(machine.timers.next).toBe(100e6 + 1000);
    }
    timers.detach(vcpu);
    expect(machine.timers.next).toBe(Infinity);
  });
});
