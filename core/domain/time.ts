/**
 * What a guest sees of time: its vCPUs' clock parameters, runstates and timers (xen.h: vcpu_time_info; vcpu.h).
 *
 * Design: the TSC counts nanoseconds of virtual time, so that the clock parameters (multiplier 1, timestamp = system time) never go
 * stale; they are written when a vCPU gets or moves its vcpu_info. All state is in the Vcpu: this class holds none of its own.
 * Invariants: timers of a vCPU end with `detach`; a periodic timer is armed exactly while its vCPU runs, and ticks that were
 * missed collapse into one (Xen: vcpu_periodic_timer_work); times written to a guest never exceed its own clock.
 */
import { VIRQ, VMASST_TYPE, vcpu_runstate_info, vcpu_time_info, XEN_RUNSTATE_UPDATE } from "../abi/index.ts";
import type { Machine } from "../machine/machine.ts";
import type { Nanoseconds } from "../machine/timers.ts";
import type { Vcpu } from "./vcpu.ts";

/** (tsc << TSC_SHIFT) * TSC_MUL >> 32 is the identity. */
const TSC_MUL = 0x80000000;
const TSC_SHIFT = 1;
/** set_timer_op: a timeout that is further away was meant to be in the past (common/schedule.c: do_set_timer_op). */
const FAR_FUTURE: Nanoseconds = 2 ** 50;
const SOON: Nanoseconds = 100e6;
/** A timer at or after this time (52 days) would never fire: virtual time is exact up to 2^53. */
export const NEVER: Nanoseconds = 2 ** 52;

export class VcpuTimers {
  readonly machine: Machine;
  readonly #area = new DataView(new ArrayBuffer(64));
  readonly #bytes = new Uint8Array(this.#area.buffer);

  constructor(machine: Machine) {
    this.machine = machine;
  }

  /** A new vCPU, with its vcpu_info: writes its clock; PV vCPUs (ArchBackend.tick) get their ticker. */
  attach(vcpu: Vcpu): void {
    vcpu.periodicTimer.period = vcpu.domain.arch?.tick ?? 0;
    vcpu.periodicTimer.last = this.machine.now;
    this.writeTime(vcpu);
  }

  /** The vCPU ends: no timer of it fires any more. */
  detach(vcpu: Vcpu): void {
    this.#stopTicks(vcpu);
    vcpu.periodicTimer.period = 0;
    vcpu.singleshotTimer?.cancel();
    vcpu.singleshotTimer = null;
    vcpu.pollTimer?.cancel();
    vcpu.pollTimer = null;
  }

  /** Called when vCPUs are taken off and put on a pCPU: runstate areas and tickers. */
  switched(previous: Vcpu | null, next: Vcpu | null): void {
    if (previous === next) return;
    if (previous !== null) {
      this.#stopTicks(previous);
      this.writeRunstate(previous);
    }
    if (next !== null) {
      this.writeRunstate(next);
      this.#tick(next);
    }
  }

  /** The wall clock of a domain at system time 0, into its shared info page. */
  writeWallclock(vcpu: Vcpu): void {
    vcpu.domain.shared?.setWallclock(this.machine.config.wallclockAtZero + vcpu.domain.wallclockOffset);
  }

  /**
   * Writes vcpu_time_info, with its version odd in between, and copies it to the time area that the guest registered, if
   * that can be written now in the address space of `through`.
   */
  writeTime(vcpu: Vcpu, through: Vcpu = vcpu): void {
    const { shared } = vcpu.domain;
    if (shared === null || vcpu.infoAddress < 0) return;
    const { view } = this.machine.frames;
    const layout = vcpu_time_info.at(vcpu.domain.abi);
    const base = vcpu.infoAddress + shared.timeOffset;
    const now = Math.min(this.machine.now, vcpu.runningOn?.time ?? Infinity);
    const version = layout.get(view, base, "version") | 1;
    layout.set(view, base, "version", version);
    layout.setNumber(view, base, "tsc_timestamp", now);
    layout.setNumber(view, base, "system_time", now);
    layout.set(view, base, "tsc_to_system_mul", TSC_MUL);
    layout.set(view, base, "tsc_shift", TSC_SHIFT);
    layout.set(view, base, "flags", 0);
    layout.set(view, base, "version", version + 1);
    shared.wrote(base, layout.size);
    const { lo, hi } = vcpu.timeArea;
    if (lo === 0 && hi === 0) return;
    this.#bytes.set(this.machine.frames.bytes.subarray(base, base + layout.size));
    vcpu.domain.arch?.copyToGuest(through, lo, hi, this.#bytes, layout.size);
  }

  /** Fills a vcpu_runstate_info; with `live` the present state's time runs up to now (VCPUOP_get_runstate_info). Returns its size. */
  readRunstate(vcpu: Vcpu, view: DataView, live: boolean): number {
    const layout = vcpu_runstate_info.at(vcpu.domain.abi);
    const { fields } = layout;
    const running = live ? Math.max(0, this.machine.now - vcpu.runStateSince) : 0;
    layout.clear(view, 0);
    fields.state.set(view, 0, vcpu.runState);
    fields.state_entry_time.setNumber(view, 0, vcpu.runStateSince);
    for (let i = 0; i < 4; i++)
      fields.time.setNumber(view, 0, vcpu.runStateTimes[i]! + (i === vcpu.runState ? running : 0), i);
    return layout.size;
  }

  /**
   * Updates the runstate area that the guest registered, if it can be written now in the address space of `through`. With
   * VMASST_TYPE_runstate_update_flag the update is bracketed by XEN_RUNSTATE_UPDATE in state_entry_time.
   */
  writeRunstate(vcpu: Vcpu, through: Vcpu = vcpu): void {
    const { lo, hi } = vcpu.runstateArea;
    const { arch } = vcpu.domain;
    if ((lo === 0 && hi === 0) || arch === null || vcpu.domain.dying) return;
    const size = this.readRunstate(vcpu, this.#area, false);
    if ((vcpu.domain.vmAssist & (1 << VMASST_TYPE.runstate_update_flag)) !== 0) {
      const entry = vcpu_runstate_info.at(vcpu.domain.abi).fields.state_entry_time;
      const high = entry.getHi(this.#area, 0);
      entry.setLoHi(this.#area, 0, entry.getLo(this.#area, 0), high | XEN_RUNSTATE_UPDATE.hi);
      if (!arch.copyToGuest(through, lo, hi, this.#bytes, size)) return;
      entry.setLoHi(this.#area, 0, entry.getLo(this.#area, 0), high);
    }
    arch.copyToGuest(through, lo, hi, this.#bytes, size);
  }

  /** VCPUOP_set_periodic_timer and stop (0). */
  setPeriodic(vcpu: Vcpu, period: Nanoseconds): void {
    this.#stopTicks(vcpu);
    vcpu.periodicTimer.period = period;
    vcpu.periodicTimer.last = this.machine.now;
    if (vcpu.runningOn !== null) this.#tick(vcpu);
  }

  #stopTicks(vcpu: Vcpu): void {
    vcpu.periodicTimer.timer?.cancel();
    vcpu.periodicTimer.timer = null;
  }

  /** Sends the tick that is due, and arms the next. */
  #tick(vcpu: Vcpu): void {
    const ticker = vcpu.periodicTimer;
    if (ticker.period === 0) return;
    const { now } = this.machine;
    if (now >= ticker.last + ticker.period) {
      ticker.last = now;
      this.#sendTimer(vcpu);
    }
    ticker.timer = this.machine.timers.arm(ticker.last + ticker.period, () => {
      ticker.timer = null;
      this.#tick(vcpu);
    });
  }

  #sendTimer(vcpu: Vcpu): void {
    if (!vcpu.domain.dying) vcpu.domain.events.sendVirq(vcpu, VIRQ.TIMER);
  }

  /** Arms the single-shot timer at an absolute system time; a time that has passed fires at the next opportunity, one beyond exact time never. */
  setSingleshot(vcpu: Vcpu, at: Nanoseconds): void {
    this.stopSingleshot(vcpu);
    if (at >= NEVER) return;
    vcpu.singleshotTimer = this.machine.timers.arm(Math.max(at, this.machine.now), () => {
      vcpu.singleshotTimer = null;
      this.#sendTimer(vcpu);
    });
  }

  stopSingleshot(vcpu: Vcpu): void {
    vcpu.singleshotTimer?.cancel();
    vcpu.singleshotTimer = null;
  }

  /**
   * Set_timer_op: an absolute time, 0 stops. A negative time, or one more than 2^50 ns away, comes from old Linux kernels whose
   * time wrapped: it fires in 100 ms.
   */
  setTimerOp(vcpu: Vcpu, at: Nanoseconds): void {
    if (at === 0) this.stopSingleshot(vcpu);
    else if (at < 0 || at - this.machine.now >= FAR_FUTURE) this.setSingleshot(vcpu, this.machine.now + SOON);
    else this.setSingleshot(vcpu, at);
  }
}
