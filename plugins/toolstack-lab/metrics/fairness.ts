/**
 * CPU time against entitlement: share error over windows, lag, Jain's index.
 *
 * What a domain is entitled to is what it would have got from an ideal, fluid machine (generalised processor sharing, Parekh and Gallager 1993) with
 * the same demand: each wake-up of a vCPU brings the work that it did until it blocked again (without end when it never did), and the fluid machine
 * serves all vCPUs with work left at once, at the fair rates of entitlement.ts. So a domain that wants less than its share is entitled to all that it
 * wants, and what it leaves goes to the others. Lag is entitled minus received service since the end of the warm-up. Both are straight lines between
 * events (of the recording, and of the fluid machine running out of a vCPU's work), so that its extremes are at events. Where the run is too large for
 * this (domains times events above 3e8), every vCPU is taken to want to run, always.
 */
import { EventKind, type RecordedParams, type Recording } from "../recording.ts";
import { Affinities } from "./affinity.ts";
import { type Claim, claimOf, FairRates } from "./entitlement.ts";
import type { WindowError } from "./types.ts";

/** Lengths of windows, ns; the last is the whole time measured. */
export const WINDOWS: readonly (number | null)[] = [10e6, 100e6, 1e9, null];

/** Domains times events up to which the fluid machine is followed. */
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

/** What the fluid machine still owes: the vCPUs of one domain, all served alike. */
class Backlog {
  /** Service that each of its vCPUs with work has had so far. */
  served = 0;
  /** vCPUs with work without end. */
  endless = 0;
  /** vCPUs whose work ends, by when it does (in `served`), rising. */
  readonly ending: { readonly vcpu: number; finish: number }[] = [];

  get wanting(): number {
    return this.endless + this.ending.length;
  }

  /** More work for a vCPU. */
  add(vcpu: number, work: number): void {
    const { ending } = this;
    const at = ending.findIndex((one) => one.vcpu === vcpu);
    const [before] = at < 0 ? [] : ending.splice(at, 1);
    if (work === Infinity) {
      this.endless++;
      return;
    }
    const finish = (before?.finish ?? this.served) + work;
    let place = ending.length;
    while (place > 0 && ending[place - 1]!.finish > finish) place--;
    ending.splice(place, 0, { vcpu, finish });
  }

  /** Lets go of who is done; true: somebody was. */
  settle(): boolean {
    const { ending } = this;
    let done = 0;
    while (done < ending.length && ending[done]!.finish <= this.served + 0.01) done++;
    if (done > 0) ending.splice(0, done);
    return done > 0;
  }
}

/** For each row that wakes a vCPU, the work that it did until it blocked again; Infinity: it never did. */
function workOf({ events, vcpus }: Recording): Float64Array {
  const { time, kind, vcpu, extra } = events;
  const work = new Float64Array(time.length);
  const woken = new Int32Array(vcpus.length).fill(-1);
  const ran = new Float64Array(vcpus.length);
  const since = new Float64Array(vcpus.length);
  for (let i = 0; i < time.length; i++) {
    if (kind[i] !== EventKind.runstate) continue;
    const v = vcpu[i]!;
    const from = extra[i]! >> 2;
    const to = extra[i]! & 3;
    if (from === 0) ran[v] = ran[v]! + time[i]! - since[v]!;
    if (to === 0) since[v] = time[i]!;
    if (from > 1 && to < 2) woken[v] = i;
    if (to < 2 || woken[v]! < 0) continue;
    work[woken[v]!] = ran[v]!;
    woken[v] = -1;
    ran[v] = 0;
  }
  for (const row of woken) if (row >= 0) work[row] = Infinity;
  return work;
}

class Pass {
  readonly #recording: Recording;
  readonly #affinities: Affinities;
  readonly #claims: Claim[];
  /** vCPUs of each domain that run. */
  readonly #running: Int32Array;
  readonly #state: Uint8Array;
  /** Work of each wake-up, by row; null: every vCPU wants to run, always. */
  readonly #work: Float64Array | null;
  readonly #backlogs: readonly Backlog[];
  readonly #wanting: Int32Array;
  readonly #rates: Float64Array;
  readonly #cpu: Float64Array;
  readonly #entitled: Float64Array;
  readonly #behind: Float64Array;
  readonly #ahead: Float64Array;
  readonly #windows: readonly Window[];
  #fair!: FairRates;
  #stale = true;
  #last = 0;
  #measuring = false;

  constructor(recording: Recording) {
    this.#recording = recording;
    const { domains, vcpus, params, warmUp, end, events } = recording;
    const count = domains.length;
    this.#affinities = new Affinities(recording);
    this.#claims = domains.map((_, d) => claimOf((params[d] as RecordedParams | undefined)?.values ?? {}));
    this.#running = new Int32Array(count);
    this.#state = new Uint8Array(vcpus.length).fill(3);
    this.#work = events.time.length * count <= MOST_WORK ? workOf(recording) : null;
    this.#backlogs = domains.map(() => new Backlog());
    this.#wanting = new Int32Array(count);
    this.#rates = new Float64Array(count);
    this.#cpu = new Float64Array(count);
    this.#entitled = new Float64Array(count);
    this.#behind = new Float64Array(count);
    this.#ahead = new Float64Array(count);
    const lengths = WINDOWS.filter((one): one is number => one !== null && one <= end - warmUp);
    this.#windows = lengths.map((length) => new Window(length, warmUp, count));
    if (this.#work === null)
      domains.forEach((domain, d) => {
        this.#backlogs[d]!.endless = domain.vcpus.length;
      });
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
    for (let d = 0; d < domains.length; d++) this.#wanting[d] = this.#backlogs[d]!.wanting;
    if (entitlement === null) {
      this.#fair.fill(this.#wanting, this.#rates);
      return;
    }
    const sum = entitlement.reduce((a, b) => a + b, 0);
    const capacity = this.#affinities.online;
    for (let d = 0; d < domains.length; d++) this.#rates[d] = sum > 0 ? (entitlement[d]! / sum) * capacity : 0;
  }

  run(): Fairness {
    const { events, end, params } = this.#recording;
    const { time, kind, vcpu, extra } = events;
    for (let i = 0; i < time.length; i++) {
      this.#advance(time[i]!);
      if (kind[i] === EventKind.runstate) this.#runstate(vcpu[i]!, extra[i]! & 3, i);
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

  #runstate(vcpu: number, to: number, row: number): void {
    const domain = this.#recording.vcpus[vcpu]!.domain;
    const from = this.#state[vcpu]!;
    this.#state[vcpu] = to;
    if (from === 0) this.#running[domain] = this.#running[domain]! - 1;
    if (to === 0) this.#running[domain] = this.#running[domain]! + 1;
    const work = from > 1 && to < 2 ? (this.#work?.[row] ?? 0) : 0;
    if (work === 0) return;
    this.#backlogs[domain]!.add(vcpu, work);
    this.#stale = true;
  }

  /** Time goes on; the fluid machine runs out of work, windows end, the warm-up ends on the way. */
  #advance(to: number): void {
    const { warmUp } = this.#recording;
    while (this.#last < to) {
      if (!this.#measuring && this.#last >= warmUp) this.#measuring = true;
      if (this.#stale) this.#renewRates();
      let next = this.#measuring ? to : Math.min(to, warmUp);
      for (const window of this.#windows) if (window.next < next) next = window.next;
      next = Math.min(next, this.#nextDone());
      this.#serve(next - this.#last);
      this.#last = next;
      for (const window of this.#windows) if (window.next === next) window.close(this.#cpu, this.#entitled);
    }
  }

  /** When the fluid machine runs out of some vCPU's work. */
  #nextDone(): number {
    let next = Infinity;
    for (let d = 0; d < this.#backlogs.length; d++) {
      const backlog = this.#backlogs[d]!;
      const first = backlog.ending[0];
      const rate = this.#rates[d]!;
      if (first === undefined || rate <= 0) continue;
      const left = Math.max(0, first.finish - backlog.served);
      next = Math.min(next, this.#last + (left * this.#wanting[d]!) / rate);
    }
    return next;
  }

  #serve(length: number): void {
    const cpu = this.#cpu;
    const entitled = this.#entitled;
    for (let d = 0; d < cpu.length; d++) {
      const backlog = this.#backlogs[d]!;
      const rate = this.#rates[d]!;
      if (this.#wanting[d]! > 0) {
        backlog.served += (rate / this.#wanting[d]!) * length;
        if (backlog.settle()) this.#stale = true;
      }
      if (!this.#measuring) continue;
      cpu[d] = cpu[d]! + this.#running[d]! * length;
      entitled[d] = entitled[d]! + rate * length;
      const lag = entitled[d]! - cpu[d]!;
      if (lag > this.#behind[d]!) this.#behind[d] = lag;
      else if (-lag > this.#ahead[d]!) this.#ahead[d] = -lag;
    }
  }
}
