/**
 * Behaviours after each other: `sequence` in their order, `mix` one at random each round.
 *
 * A part lasts until it ends by itself, or for the time given by its key `for`; a run or a sleep is cut there. What waits for other vCPUs
 * can't be cut.
 */
import type { Nanoseconds } from "hookvisor";
import { Does, type Guest } from "../guest.ts";
import type { RandomStream } from "../random.ts";
import type { Fields } from "../value.ts";
import type { Behaviour, BehaviourKind, Plan, ReadPlan } from "./behaviour.ts";

interface Part {
  readonly plan: Plan;
  /** Infinity: until it ends. */
  readonly lasts: Nanoseconds;
  readonly weight: number;
}

/** How often it is repeated: `repeat` is a number, or true for ever; default 1. */
export function readRepeat(fields: Fields): number {
  const repeat = fields.get("repeat");
  if (repeat === undefined) return 1;
  if (repeat.json.kind !== "boolean") return repeat.whole(1);
  return repeat.boolean() ? Infinity : 1;
}

class Sequence implements Behaviour {
  readonly #parts: readonly Part[];
  readonly #behaviours: readonly Behaviour[];
  readonly #rounds: number;
  /** Of a mix: what chooses. */
  readonly #choice: RandomStream | null;
  readonly #weight: number;
  #at = 0;
  #round = 0;
  #over: Nanoseconds = Infinity;

  constructor(parts: readonly Part[], rounds: number, guest: Guest, choice: RandomStream | null) {
    this.#parts = parts;
    this.#behaviours = parts.map((part) => part.plan.make(guest));
    this.#rounds = rounds;
    this.#choice = choice;
    this.#weight = parts.reduce((sum, part) => sum + part.weight, 0);
  }

  start(guest: Guest, now: Nanoseconds): void {
    this.#round = 0;
    this.#begin(guest, now, this.#choice === null ? 0 : this.#draw());
  }

  next(guest: Guest, now: Nanoseconds): void {
    if (now < this.#over) this.#behaviours[this.#at]!.next(guest, now);
    else {
      // A run that ended at this instant is done, not cut: the part may count it.
      if (guest.does === Does.run && guest.left === 0) this.#behaviours[this.#at]!.next(guest, now);
      guest.end();
    }
    this.#settle(guest, now);
  }

  sync(guest: Guest, now: Nanoseconds): void {
    this.#behaviours[this.#at]!.sync!(guest, now);
    this.#settle(guest, now);
  }

  /** While the part has ended, the next one decides; a step must not outlast its part. */
  #settle(guest: Guest, now: Nanoseconds): void {
    while (guest.does === Does.end) {
      if (!this.#advance(guest, now)) return;
      this.#behaviours[this.#at]!.next(guest, now);
    }
    guest.cut(this.#over);
  }

  #advance(guest: Guest, now: Nanoseconds): boolean {
    let at = this.#at + 1;
    if (this.#choice !== null || at === this.#parts.length) {
      if (++this.#round === this.#rounds) return false;
      at = this.#choice === null ? 0 : this.#draw();
    }
    this.#begin(guest, now, at);
    return true;
  }

  #begin(guest: Guest, now: Nanoseconds, at: number): void {
    this.#at = at;
    this.#over = now + this.#parts[at]!.lasts;
    this.#behaviours[at]!.start(guest, now);
  }

  #draw(): number {
    let point = this.#choice!.uniform() * this.#weight;
    for (let i = 0; i < this.#parts.length; i++) {
      point -= this.#parts[i]!.weight;
      if (point < 0) return i;
    }
    return this.#parts.length - 1;
  }
}

function readParts(fields: Fields, readPlan: ReadPlan, mix: boolean, lastMayStay: boolean): readonly Part[] {
  const items = fields.need("of").items(1);
  return items.map((item, i) => {
    const part = item.fields();
    const inner = part.need("do");
    const plan = readPlan(inner);
    const lasts = part.get("for");
    if (lasts !== undefined && plan.shared) lasts.fail("can't cut a behaviour that waits for other vCPUs");
    if (mix && plan.shared) inner.fail("waits for other vCPUs, which a mix does not allow");
    const stays = lastMayStay && i === items.length - 1;
    if (lasts === undefined && !plan.finite && !stays) inner.fail("never ends; give its part the key 'for'");
    const weight = mix ? (part.get("weight")?.number(0, 1e9) ?? 1) : 1;
    part.close(mix ? "a part of a mix" : "a part of a sequence");
    return { plan, lasts: lasts?.duration({ min: 1 }) ?? Infinity, weight };
  });
}

function planOf(parts: readonly Part[], rounds: number, purpose: string | null): Plan {
  return {
    finite: rounds < Infinity && parts.every((part) => part.plan.finite || part.lasts < Infinity),
    shared: parts.some((part) => part.plan.shared),
    enlist(guest, times) {
      for (const part of parts) part.plan.enlist?.(guest, times * rounds);
    },
    make: (guest) => new Sequence(parts, rounds, guest, purpose === null ? null : guest.stream(purpose)),
  };
}

export const sequence: BehaviourKind = {
  name: "sequence",
  summary: "behaviours after each other",
  read(fields, readPlan) {
    const rounds = readRepeat(fields);
    const parts = readParts(fields, readPlan, false, rounds === 1);
    fields.close("a sequence");
    return planOf(parts, rounds, null);
  },
};

export const mix: BehaviourKind = {
  name: "mix",
  summary: "one of several behaviours each round, by weight",
  read(fields, readPlan) {
    const rounds = fields.get("rounds")?.whole(1) ?? Infinity;
    const of = fields.need("of");
    const parts = readParts(fields, readPlan, true, false);
    if (parts.every((part) => part.weight === 0)) of.fail("must have a part whose weight is above 0");
    fields.close("a mix");
    return planOf(parts, rounds, `${fields.value.scope}/mix`);
  },
};
