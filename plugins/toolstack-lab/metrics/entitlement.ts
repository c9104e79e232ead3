/**
 * What each domain is entitled to at a moment: weighted max-min fair rates, in pCPUs.
 *
 * This is generalised processor sharing with the bounds of a real machine: rates grow in proportion to weight until something is full: the domain's own
 * bound (its vCPUs that want to run, its cap) or a set of pCPUs (Hall's condition: domains that may only run within a set get no more than the set
 * has). The rest goes to the others. A domain's weight counts once for each of its vCPUs that wants to run, as in credit and credit2.
 */
import type { ParamValues } from "hookvisor";

/** What a scheduler's parameters promise a domain. */
export interface Claim {
  /** Of each vCPU. */
  readonly weight: number;
  /** pCPUs that all its vCPUs together may have at most. */
  readonly cap: number;
  /** pCPUs that each vCPU may have at most. */
  readonly vcpuCap: number;
}

/**
 * The claim that follows from scheduler parameters: `weight` and `cap` (percent of a pCPU, 0: none); with a budget or slice in each period, their quotient
 * is the weight, and a bound unless there is extra time; bvt's `mcu_advance` is a weight's inverse. Without any of these all are equal.
 */
export function claimOf(values: ParamValues): Claim {
  const number = (...names: readonly string[]): number | null => {
    for (const name of names) {
      const value = values[name];
      if (typeof value === "number") return value;
    }
    return null;
  };
  const period = number("period", "period_us", "period_ns");
  const budget = number("budget", "budget_us", "budget_ns", "slice", "slice_us", "slice_ns");
  if (period !== null && period > 0 && budget !== null && budget > 0) {
    const part = Math.min(1, budget / period);
    return { weight: part, cap: Infinity, vcpuCap: values["extratime"] === false ? part : 1 };
  }
  const advance = number("mcu_advance");
  const cap = number("cap") ?? 0;
  const weight = number("weight") ?? (advance !== null && advance > 0 ? 1 / advance : 1);
  return { weight: weight > 0 ? weight : 1, cap: cap > 0 ? cap / 100 : Infinity, vcpuCap: 1 };
}

/** A set of pCPUs that bounds some domains. */
interface Bound {
  readonly capacity: number;
  /** Classes whose pCPUs are all within. */
  readonly classes: readonly boolean[];
}

/** Classes of a pool up to which every union of them is looked at. */
const MOST_CLASSES = 8;

/** Rates for domains whose classes and weights are fixed, while what they want changes. */
export class FairRates {
  readonly #bounds: readonly Bound[];
  readonly #classOf: Int32Array;
  readonly #claims: readonly Claim[];
  readonly #sizes: readonly number[];
  readonly #members: readonly (readonly number[])[];
  readonly #left: Float64Array;
  readonly #limit: Float64Array;
  readonly #weight: Float64Array;
  readonly #open: Uint8Array;

  /** `classOf`: index into `classes`, by domain. */
  constructor(
    claims: readonly Claim[],
    classOf: Int32Array,
    classes: readonly { readonly pool: number; readonly cpus: readonly number[] }[],
  ) {
    this.#claims = claims;
    this.#classOf = classOf;
    this.#sizes = classes.map((one) => one.cpus.length);
    this.#bounds = boundsOf(classes);
    this.#members = this.#bounds.map(({ classes: within }) =>
      claims.map((_, d) => d).filter((d) => within[classOf[d]!] === true),
    );
    this.#left = new Float64Array(this.#bounds.length);
    this.#limit = new Float64Array(claims.length);
    this.#weight = new Float64Array(claims.length);
    this.#open = new Uint8Array(claims.length);
  }

  /** Fills `rates` for domains of which so many vCPUs want to run. */
  fill(wanting: ArrayLike<number>, rates: Float64Array): void {
    const limit = this.#limit;
    const weight = this.#weight;
    const open = this.#open;
    const left = this.#left;
    let todo = 0;
    for (let d = 0; d < this.#claims.length; d++) {
      const claim = this.#claims[d]!;
      const vcpus = wanting[d]!;
      limit[d] = Math.min(vcpus * claim.vcpuCap, claim.cap, this.#sizes[this.#classOf[d]!]!);
      weight[d] = claim.weight * vcpus;
      rates[d] = 0;
      open[d] = limit[d]! > 0 ? 1 : 0;
      todo += open[d]!;
    }
    let scarce = false;
    for (let b = 0; b < left.length; b++) {
      left[b] = this.#bounds[b]!.capacity;
      let wanted = 0;
      for (const d of this.#members[b]!) wanted += limit[d]!;
      if (wanted > left[b]!) scarce = true;
    }
    if (!scarce) {
      rates.set(limit);
      return;
    }
    while (todo > 0) todo -= this.#round(rates);
  }

  /** Lets all open domains grow until the first of them, or of the bounds, is full; how many domains are done. */
  #round(rates: Float64Array): number {
    const limit = this.#limit;
    const weight = this.#weight;
    const open = this.#open;
    const left = this.#left;
    let level = Infinity;
    for (let d = 0; d < open.length; d++) if (open[d] === 1) level = Math.min(level, limit[d]! / weight[d]!);
    const full: number[] = [];
    for (let b = 0; b < left.length; b++) {
      let weights = 0;
      for (const d of this.#members[b]!) if (open[d] === 1) weights += weight[d]!;
      if (weights === 0) continue;
      const reach = Math.max(0, left[b]!) / weights;
      if (reach < level * (1 - 1e-12)) full.length = 0;
      if (reach <= level * (1 + 1e-12)) full.push(b);
      level = Math.min(level, reach);
    }
    let done = 0;
    const close = (d: number): void => {
      if (open[d] !== 1) return;
      open[d] = 0;
      rates[d] = Math.min(limit[d]!, weight[d]! * level);
      done++;
      for (let b = 0; b < left.length; b++)
        if (this.#bounds[b]!.classes[this.#classOf[d]!] === true) left[b] = left[b]! - rates[d]!;
    };
    for (const b of full) for (const d of this.#members[b]!) close(d);
    for (let d = 0; d < open.length; d++) if (open[d] === 1 && limit[d]! / weight[d]! <= level * (1 + 1e-12)) close(d);
    return done;
  }
}

/** Every union of classes of one pool (of very many classes: each, and all of them), with the classes that are within it. */
function boundsOf(classes: readonly { readonly pool: number; readonly cpus: readonly number[] }[]): readonly Bound[] {
  const bounds = new Map<string, Bound>();
  const add = (pool: number, cpus: ReadonlySet<number>): void => {
    const key = `${pool}:${[...cpus].sort((a, b) => a - b).join()}`;
    if (bounds.has(key)) return;
    const within = classes.map((one) => one.pool === pool && one.cpus.every((cpu) => cpus.has(cpu)));
    bounds.set(key, { capacity: cpus.size, classes: within });
  };
  for (const pool of new Set(classes.map((one) => one.pool))) {
    const own = classes.filter((one) => one.pool === pool);
    if (own.length > MOST_CLASSES) {
      for (const one of own) add(pool, new Set(one.cpus));
      add(pool, new Set(own.flatMap((one) => one.cpus)));
      continue;
    }
    for (let mask = 1; mask < 1 << own.length; mask++)
      add(pool, new Set(own.flatMap((one, i) => (((mask >> i) & 1) === 1 ? one.cpus : []))));
  }
  return [...bounds.values()];
}
