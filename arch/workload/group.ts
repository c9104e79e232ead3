/** What the vCPUs of one domain share: barriers, locks and conditions by name, and that the domain powers off when all have ended. */
import { type Domain, type Nanoseconds, ShutdownReason, type Timer } from "hookvisor";
import { Guest, type GuestServices } from "./guest.ts";
import { Barrier, Condition, Lock } from "./sync.ts";

export class Group {
  readonly domain: Domain;
  readonly seed: number;
  readonly guests: Guest[] = [];
  readonly #services: GuestServices;
  readonly #barriers = new Map<string, Barrier>();
  readonly #locks = new Map<string, Lock>();
  readonly #conditions = new Map<string, Condition>();
  readonly #ended = new Set<Guest>();
  readonly #timers: Timer[] = [];
  #limited = false;

  constructor(domain: Domain, seed: number, services: GuestServices) {
    this.domain = domain;
    this.seed = seed;
    this.#services = services;
    for (const vcpu of domain.vcpus) this.guests.push(new Guest(vcpu, this, services));
  }

  barrier(name: string): Barrier {
    return made(this.#barriers, name, () => new Barrier());
  }

  lock(name: string): Lock {
    return made(this.#locks, name, () => new Lock());
  }

  condition(name: string): Condition {
    return made(this.#conditions, name, () => new Condition());
  }

  /** A guest has nothing more to do; after the last one the domain powers off. */
  ended(guest: Guest, now: Nanoseconds): void {
    if (this.#ended.has(guest)) return;
    this.#ended.add(guest);
    if (this.#ended.size === this.guests.length) this.powerOff(now);
  }

  /** The domain powers off at a time, counted from the first call: later calls are ignored. */
  limit(at: Nanoseconds): void {
    if (this.#limited) return;
    this.#limited = true;
    this.powerOff(at);
  }

  /** Powers the domain off at a time. */
  powerOff(at: Nanoseconds): void {
    const { host } = this.#services;
    this.#timers.push(host.timer(at, () => host.shutdown(this.domain, ShutdownReason.poweroff)));
  }

  /** No timer of the domain fires any more. */
  destroy(): void {
    for (const guest of this.guests) guest.destroy();
    for (const timer of this.#timers) timer.cancel();
  }
}

function made<T>(map: Map<string, T>, name: string, make: () => T): T {
  let value = map.get(name);
  if (value === undefined) {
    value = make();
    map.set(name, value);
  }
  return value;
}
