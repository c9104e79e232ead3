/**
 * A SchedulerHost that misbehaves for a while as a real machine's timers and interrupts do, and is exact before and after.
 *
 * Invariants: no timer fires before its time, nor twice, nor after it was cancelled; every timer fires in the end: one that is lost is made up for
 * by the next that fires, or when the disturbance ends (an expired timer is found at the next timer interrupt). Timers that come to fire together do in the order of arming.
 */
import type { Nanoseconds, Timer } from "../../../core/machine/timers.ts";
import type { SchedulerHost, SchedulerPcpu } from "../../../core/scheduling/scheduler.ts";
import type { Disturbance } from "./plan.ts";

interface Lost {
  readonly at: Nanoseconds;
  fire: ((now: Nanoseconds) => void) | null;
}

export class DisturbedHost implements SchedulerHost {
  readonly #host: SchedulerHost;
  readonly #plan: Disturbance;
  #seed: number;
  #lost: Lost[] = [];
  #timers = 0;

  constructor(host: SchedulerHost, plan: Disturbance) {
    this.#host = host;
    this.#plan = plan;
    this.#seed = plan.seed;
  }

  get pool() {
    return this.#host.pool;
  }
  get pcpus() {
    return this.#host.pcpus;
  }
  now(): Nanoseconds {
    return this.#host.now();
  }
  random(): number {
    return this.#host.random();
  }
  log(message: string): void {
    this.#host.log(message);
  }

  get #end(): Nanoseconds {
    return this.#plan.from + this.#plan.length;
  }

  #disturbs(at: Nanoseconds): boolean {
    return at >= this.#plan.from && at < this.#end;
  }

  /** A whole number from 0 to `max`. */
  #up(max: number): number {
    this.#seed = (Math.imul(this.#seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((this.#seed / 2 ** 32) * (max + 1));
  }

  /** How much later than its slice ends a decision of now is followed by the next. */
  lateDispatch(now: Nanoseconds): Nanoseconds {
    return this.#plan.dispatch > 0 && this.#disturbs(now) ? this.#up(this.#plan.dispatch) : 0;
  }

  tickle(pcpu: SchedulerPcpu): void {
    const now = this.now();
    if (this.#plan.tickle === 0 || !this.#disturbs(now)) this.#host.tickle(pcpu);
    else this.#host.timer(Math.min(this.#end, now + this.#up(this.#plan.tickle)), () => this.#host.tickle(pcpu));
  }

  timer(at: Nanoseconds, fire: (now: Nanoseconds) => void): Timer {
    const { late, coalesce, lost } = this.#plan;
    const due = Math.max(at, this.now());
    if (!this.#disturbs(due)) return this.#host.timer(at, (now) => this.#fired(now, fire));
    if (lost > 0 && ++this.#timers % lost === 0) {
      const one: Lost = { at: due, fire };
      this.#lost.push(one);
      this.#host.timer(this.#end, (now) => this.#makeUp(now));
      return {
        at,
        cancel: () => {
          one.fire = null;
        },
      };
    }
    let then = due + this.#up(late);
    if (coalesce > 0) then = Math.ceil(then / coalesce) * coalesce;
    const inner = this.#host.timer(Math.max(due, Math.min(then, this.#end)), (now) => this.#fired(now, fire));
    return { at, cancel: () => inner.cancel() };
  }

  #fired(now: Nanoseconds, fire: (now: Nanoseconds) => void): void {
    this.#makeUp(now);
    fire(now);
  }

  /** Fires what was lost and is due. */
  #makeUp(now: Nanoseconds): void {
    if (this.#lost.length === 0) return;
    const due = this.#lost.filter((one) => one.at <= now).sort((a, b) => a.at - b.at);
    this.#lost = this.#lost.filter((one) => one.at > now);
    for (const one of due) {
      const { fire } = one;
      one.fire = null;
      fire?.(now);
    }
  }
}
