/**
 * The energy meter: joules of each pCPU and of each domain, from the events that a trace writer is told.
 *
 * It counts nanoseconds, by pCPU, domain and rate, and wake-ups, by pCPU, domain and idle state; whole numbers, so nothing is lost however
 * many events there are. Joules are products of these with the model's figures, made when they are asked for.
 *
 * Who pays:
 * - a busy pCPU: the domain whose vCPU runs;
 * - a wake-up: the domain that runs next (nobody, if none does before the pCPU idles again);
 * - an idle pCPU: each domain in proportion to the share of all time that it used this pCPU; nobody ("idle") pays what is left, the idle
 *   share itself. A pCPU used by A for 30 % and by B for 10 %: A pays 30 % of its idle energy, B 10 %, nobody 60 %.
 * So the domains and nobody pay together exactly what the pCPUs draw.
 */
import { type Nanoseconds, RunState } from "hookvisor";
import type { TraceWriter } from "../lib-trace/index.ts";
import type { EnergyModel } from "./model.ts";

const { running } = RunState;

/** What something has drawn, in joules. */
export interface Joules {
  readonly busy: number;
  readonly idle: number;
  readonly wake: number;
  readonly total: number;
}

export interface EnergyReport {
  readonly pcpus: readonly (Joules & { readonly pcpu: number })[];
  readonly domains: readonly (Joules & { readonly domain: number; readonly name: string })[];
  /** What no domain pays. */
  readonly nobody: Joules;
  /** Of the whole machine. */
  readonly total: number;
}

export interface EnergyMeterOptions {
  readonly pcpus: number;
  /** Rate of each pCPU until `frequency` tells of another, MHz. */
  readonly mhz: number;
  readonly model: EnergyModel;
  /** When the meter starts; every pCPU idles then, in idle state 0. */
  readonly start?: Nanoseconds;
}

/** Nobody's place among the domains. */
const NOBODY = 0;
/** A pCPU that has left its idle state and runs nothing yet. */
const AWAKE = -1;

/** What is known of a pCPU. */
interface PcpuMeter {
  last: Nanoseconds;
  /** Place of the domain that it runs; NOBODY: it idles. */
  on: number;
  /** Place of its rate. */
  rate: number;
  /** AWAKE, or its idle state. */
  idleState: number;
  /** The idle state that it has left, when nobody has paid for that yet; -1: none. */
  waking: number;
  /** Busy nanoseconds by rate and domain. */
  readonly busy: Float64Array[];
  /** Idle nanoseconds by idle state. */
  readonly idle: number[];
  /** Wake-ups by idle state and domain. */
  readonly wakes: Float64Array[];
}

export class EnergyMeter implements TraceWriter {
  readonly #model: EnergyModel;
  readonly #pcpus: readonly PcpuMeter[];
  readonly #rates: number[] = [];
  /** Domains by place; NOBODY first. */
  readonly #domains: { readonly domain: number; readonly name: string }[] = [{ domain: -1, name: "" }];
  readonly #places = new Map<number, number>();
  /** Place of the domain of a vCPU, by handle. */
  readonly #domainOf: number[] = [];

  constructor({ pcpus, mhz, model, start = 0 }: EnergyMeterOptions) {
    this.#model = model;
    const rate = this.#rate(mhz);
    this.#pcpus = Array.from({ length: pcpus }, () => ({
      last: start,
      on: NOBODY,
      rate,
      idleState: 0,
      waking: -1,
      busy: [],
      idle: [],
      wakes: [],
    }));
  }

  vcpu(handle: number, domain: number, name: string): void {
    let place = this.#places.get(domain);
    if (place === undefined) {
      place = this.#domains.length;
      this.#places.set(domain, place);
      this.#domains.push({ domain, name });
    }
    this.#domainOf[handle] = place;
  }

  runstate(vcpu: number, from: RunState, to: RunState, pcpu: number, now: Nanoseconds): void {
    if (pcpu < 0 || (from !== running && to !== running)) return;
    const meter = this.#pcpus[pcpu]!;
    this.#advance(meter, now);
    if (to === running) {
      meter.on = this.#domainOf[vcpu]!;
      this.#wake(meter, meter.on);
    } else meter.on = NOBODY;
  }

  contextSwitch(): void {}

  frequency(pcpu: number, mhz: number, now: Nanoseconds): void {
    const meter = this.#pcpus[pcpu]!;
    this.#advance(meter, now);
    meter.rate = this.#rate(mhz);
  }

  idleState(pcpu: number, state: number, now: Nanoseconds): void {
    const meter = this.#pcpus[pcpu]!;
    this.#advance(meter, now);
    if (state < 0) {
      if (meter.idleState >= 0) meter.waking = meter.idleState;
    } else this.#wake(meter, NOBODY);
    meter.idleState = state < 0 ? AWAKE : state;
  }

  job(): void {}
  instant(): void {}

  /** Counts up to a time; more may follow. */
  finish(now: Nanoseconds): void {
    for (const meter of this.#pcpus) this.#advance(meter, now);
  }

  /** Forgets what was drawn until a time: the end of a warm-up. */
  reset(now: Nanoseconds): void {
    this.finish(now);
    for (const meter of this.#pcpus) {
      meter.busy.length = 0;
      meter.idle.length = 0;
      meter.wakes.length = 0;
    }
  }

  #rate(mhz: number): number {
    const known = this.#rates.indexOf(mhz);
    return known >= 0 ? known : this.#rates.push(mhz) - 1;
  }

  /** A pCPU did the same since its last event. Times that go back count nothing. */
  #advance(meter: PcpuMeter, now: Nanoseconds): void {
    const passed = now - meter.last;
    if (passed <= 0) return;
    meter.last = now;
    const { on, idleState } = meter;
    if (on === NOBODY && idleState >= 0) {
      meter.idle[idleState] = (meter.idle[idleState] ?? 0) + passed;
      return;
    }
    const row = this.#row(meter.busy, meter.rate, on);
    row[on] = row[on]! + passed;
  }

  /** Somebody pays for leaving an idle state, if that is still to be paid. */
  #wake(meter: PcpuMeter, place: number): void {
    if (meter.waking < 0) return;
    const row = this.#row(meter.wakes, meter.waking, place);
    row[place] = row[place]! + 1;
    meter.waking = -1;
  }

  /** A row of counts by domain that has room for a place. */
  #row(rows: Float64Array[], index: number, place: number): Float64Array {
    const row = rows[index];
    if (row !== undefined && place < row.length) return row;
    const wider = new Float64Array(Math.max(16, this.#domains.length * 2));
    if (row !== undefined) wider.set(row);
    while (rows.length <= index) rows.push(new Float64Array(0));
    rows[index] = wider;
    return wider;
  }

  /** What was drawn so far, up to each pCPU's last event (see finish). */
  report(): EnergyReport {
    const bills = this.#domains.map(() => ({ busy: 0, idle: 0, wake: 0 }));
    const watts = this.#rates.map((mhz) => this.#model.busyWatts(mhz));
    const pcpus = this.#pcpus.map((meter, pcpu) => ({ pcpu, ...this.#bill(meter, watts, bills) }));
    const [nobody, ...domains] = bills.map(({ busy, idle, wake }) => ({ busy, idle, wake, total: busy + idle + wake }));
    return {
      pcpus,
      domains: domains.map((joules, i) => ({ ...this.#domains[i + 1]!, ...joules })),
      nobody: nobody!,
      total: pcpus.reduce((sum, { total }) => sum + total, 0),
    };
  }

  /** One pCPU: what it drew, added to the bills of who pays. */
  #bill(meter: PcpuMeter, watts: readonly number[], bills: { busy: number; idle: number; wake: number }[]): Joules {
    const { idle: idlePower } = this.#model;
    const power = (state: number): { watts: number; wakeJoules: number } =>
      idlePower[Math.min(state, idlePower.length - 1)]!;
    let busy = 0;
    let wake = 0;
    let idle = 0;
    let time = 0;
    const used = new Float64Array(bills.length);
    meter.busy.forEach((row, rate) => {
      row.forEach((ns, place) => {
        if (ns === 0) return;
        const joules = watts[rate]! * ns * 1e-9;
        bills[place]!.busy += joules;
        busy += joules;
        used[place] = used[place]! + ns;
        time += ns;
      });
    });
    meter.wakes.forEach((row, state) => {
      row.forEach((count, place) => {
        if (count === 0) return;
        const joules = power(state).wakeJoules * count;
        bills[place]!.wake += joules;
        wake += joules;
      });
    });
    meter.idle.forEach((ns, state) => {
      idle += power(state).watts * ns * 1e-9;
      time += ns;
    });
    let left = idle;
    for (let place = 1; place < used.length && time > 0; place++) {
      const share = idle * (used[place]! / time);
      bills[place]!.idle += share;
      left -= share;
    }
    bills[NOBODY]!.idle += left;
    return { busy, idle, wake, total: busy + idle + wake };
  }
}
