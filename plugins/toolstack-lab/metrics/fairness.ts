/**
 * CPU time against entitlement: share error over windows, lag, Jain's index.
 *
 * One pass over the events: each domain's service grows with its running vCPUs, its entitled service with its fair rate (entitlement.ts) given which vCPUs
 * want to run at that moment (running or runnable). Lag is entitled minus received service since the end of the warm-up; both are straight lines
 * between events, so that its extremes are at events. Where the run is too large for rates that follow every change (domains times changes above 3e8), they
 * are those of all vCPUs wanting to run, always.
 */
import { EventKind, type RecordedParams, type Recording } from "../recording.ts";
import { Affinities } from "./affinity.ts";
import { type Claim, claimOf, FairRates } from "./entitlement.ts";
import type { WindowError } from "./types.ts";

/** Lengths of windows, ns; the last is the whole time measured. */
export const WINDOWS: readonly (number | null)[] = [10e6, 100e6, 1e9, null];

/** Domains times changes up to which rates follow every change. */
const MOST_WORK = 3e8;

export interface Fairness {
  /** By domain. */
  readonly cpu: Float64Array;
  readonly entitled: Float64Array;
  readonly behind: Float64Array;
  readonly ahead: Float64Array;
  readonly shareErrors: readonly WindowError[];
  readonly jain: number | null;
}

/** One length of windows. */
class Window {
  readonly length: number;
  /** When the present window ends. */
  next: number;
  readonly #cpu: Float64Array;
  readonly #entitled: Float64Array;
  #count = 0;
  #sum = 0;
  #max = 0;

  constructor(length: number, start: number, domains: number) {
    this.length = length;
    this.next = start + length;
    this.#cpu = new Float64Array(domains);
    this.#entitled = new Float64Array(domains);
  }

  close(cpu: Float64Array, entitled: Float64Array): void {
    const error = shareError(cpu, entitled, this.#cpu, this.#entitled);
    if (error !== null) {
      this.#count++;
      this.#sum += error;
      this.#max = Math.max(this.#max, error);
    }
    this.#cpu.set(cpu);
    this.#entitled.set(entitled);
    this.next += this.length;
  }

  get result(): WindowError {
    const mean = this.#count === 0 ? 0 : this.#sum / this.#count;
    return { window: this.length, windows: this.#count, mean, max: this.#max };
  }
}

/** The largest difference of shares since the given values; null: nothing ran and nothing should have. */
function shareError(
  cpu: Float64Array,
  entitled: Float64Array,
  cpuBefore: Float64Array,
  entitledBefore: Float64Array,
): number | null {
  let got = 0;
  let due = 0;
  for (let d = 0; d < cpu.length; d++) {
    got += cpu[d]! - cpuBefore[d]!;
    due += entitled[d]! - entitledBefore[d]!;
  }
  if (got <= 0 && due <= 0) return null;
  let worst = 0;
  for (let d = 0; d < cpu.length; d++) {
    const share = got > 0 ? (cpu[d]! - cpuBefore[d]!) / got : 0;
    const wanted = due > 0 ? (entitled[d]! - entitledBefore[d]!) / due : 0;
    worst = Math.max(worst, Math.abs(share - wanted));
  }
  return worst;
}

/** Jain's index of what each got relative to what it was due. */
export function jainIndex(cpu: ArrayLike<number>, entitled: ArrayLike<number>): number | null {
  let sum = 0;
  let squares = 0;
  let count = 0;
  for (let d = 0; d < cpu.length; d++) {
    if (entitled[d]! <= 0) continue;
    const part = cpu[d]! / entitled[d]!;
    sum += part;
    squares += part * part;
    count++;
  }
  return squares === 0 ? null : (sum * sum) / (count * squares);
}

export function fairness(recording: Recording): Fairness {
  return new Pass(recording).run();
}

class Pass {
  readonly #recording: Recording;
  readonly #affinities: Affinities;
  readonly #claims: Claim[];
  /** vCPUs of each domain that run; that want to run. */
  readonly #running: Int32Array;
  readonly #wanting: Int32Array;
  readonly #state: Uint8Array;
  readonly #rates: Float64Array;
  readonly #cpu: Float64Array;
  readonly #entitled: Float64Array;
  readonly #behind: Float64Array;
  readonly #ahead: Float64Array;
  readonly #windows: readonly Window[];
  readonly #follows: boolean;
  #fair!: FairRates;
  #stale = true;
  #last: number;

  constructor(recording: Recording) {
    this.#recording = recording;
    const { domains, vcpus, params, warmUp, end, events } = recording;
    const count = domains.length;
    this.#affinities = new Affinities(recording);
    this.#claims = domains.map((_, d) => claimOf((params[d] as RecordedParams | undefined)?.values ?? {}));
    this.#running = new Int32Array(count);
    this.#wanting = new Int32Array(count);
    this.#state = new Uint8Array(vcpus.length).fill(3);
    this.#rates = new Float64Array(count);
    this.#cpu = new Float64Array(count);
    this.#entitled = new Float64Array(count);
    this.#behind = new Float64Array(count);
    this.#ahead = new Float64Array(count);
    this.#last = warmUp;
    const lengths = WINDOWS.filter((one): one is number => one !== null && one <= end - warmUp);
    this.#windows = lengths.map((length) => new Window(length, warmUp, count));
    this.#follows = events.time.length * count <= MOST_WORK;
    this.#renewClaims();
  }

  #renewClaims(): void {
    const { domains } = this.#recording;
    const { classes, classOf } = this.#affinities;
    const ofDomain = Int32Array.from(domains, (domain) => classOf[domain.vcpus[0]!]!);
    this.#fair = new FairRates(this.#claims, ofDomain, classes);
    this.#stale = true;
  }

  /** Entitled rates at this moment. */
  #renewRates(): void {
    const { entitlement, domains } = this.#recording;
    this.#stale = false;
    if (entitlement !== null) {
      const sum = entitlement.reduce((a, b) => a + b, 0);
      const capacity = this.#affinities.online;
      for (let d = 0; d < domains.length; d++) this.#rates[d] = sum > 0 ? (entitlement[d]! / sum) * capacity : 0;
    } else if (this.#follows) this.#fair.fill(this.#wanting, this.#rates);
    else
      this.#fair.fill(
        domains.map((domain) => domain.vcpus.length),
        this.#rates,
      );
  }

  run(): Fairness {
    const { events, end, params } = this.#recording;
    const { time, kind, vcpu, extra } = events;
    for (let i = 0; i < time.length; i++) {
      this.#advance(time[i]!);
      if (kind[i] === EventKind.runstate) this.#runstate(vcpu[i]!, extra[i]! & 3);
      else if (kind[i] === EventKind.params) {
        const { domain, values } = params[extra[i]!]!;
        this.#claims[domain] = claimOf(values);
        this.#renewClaims();
      } else if (this.#affinities.event(i)) this.#renewClaims();
    }
    this.#advance(end);
    const zeros = new Float64Array(this.#cpu.length);
    const whole = shareError(this.#cpu, this.#entitled, zeros, zeros);
    return {
      cpu: this.#cpu,
      entitled: this.#entitled,
      behind: this.#behind,
      ahead: this.#ahead,
      shareErrors: [
        ...this.#windows.map((one) => one.result),
        { window: null, windows: whole === null ? 0 : 1, mean: whole ?? 0, max: whole ?? 0 },
      ],
      jain: jainIndex(this.#cpu, this.#entitled),
    };
  }

  #runstate(vcpu: number, to: number): void {
    const domain = this.#recording.vcpus[vcpu]!.domain;
    const from = this.#state[vcpu]!;
    this.#state[vcpu] = to;
    if (from === 0) this.#running[domain] = this.#running[domain]! - 1;
    if (to === 0) this.#running[domain] = this.#running[domain]! + 1;
    const change = (to < 2 ? 1 : 0) - (from < 2 ? 1 : 0);
    if (change === 0) return;
    this.#wanting[domain] = this.#wanting[domain]! + change;
    if (this.#follows) this.#stale = true;
  }

  /** Time goes on; windows that end on the way are closed. */
  #advance(to: number): void {
    while (this.#last < to) {
      let next = to;
      for (const window of this.#windows) if (window.next < next) next = window.next;
      this.#serve(next - this.#last);
      this.#last = next;
      for (const window of this.#windows) if (window.next === next) window.close(this.#cpu, this.#entitled);
    }
  }

  #serve(length: number): void {
    if (this.#stale) this.#renewRates();
    const cpu = this.#cpu;
    const entitled = this.#entitled;
    for (let d = 0; d < cpu.length; d++) {
      cpu[d] = cpu[d]! + this.#running[d]! * length;
      entitled[d] = entitled[d]! + this.#rates[d]! * length;
      const lag = entitled[d]! - cpu[d]!;
      if (lag > this.#behind[d]!) this.#behind[d] = lag;
      else if (-lag > this.#ahead[d]!) this.#ahead[d] = -lag;
    }
  }
}
