/**
 * The properties that need a claim: what a policy promises about shares, caps, budgets, windows and moves.
 *
 * All run in one piece (lazily) with switches that cost nothing, so that figures are exact.
 */
import fc from "fast-check";
import type { Domain } from "../../../core/domain/domain.ts";
import { defaultMachine } from "../../../core/machine/machine.ts";
import { type Behaviour, hog, Load } from "../../support/load.ts";
import { check, MS, type SchedulerProperty, type SchedulerUnderTest, SECOND } from "./contract.ts";
import { explore } from "./explore.ts";
import type { Disturbance } from "./plan.ts";
import { Watch } from "./watch.ts";

const FREE = { ...defaultMachine.costs, contextSwitch: 0 };
const CALM: Disturbance = { from: 0, length: 0, dispatch: 0, tickle: 0, late: 0, coalesce: 0, lost: 0, seed: 1 };

/** A load, and its watch. */
function prepare(under: SchedulerUnderTest, pcpus: number, disturbance: Disturbance | null = null): [Load, Watch] {
  const watch = new Watch(under, disturbance);
  return [new Load(watch.make, { pcpus, lazy: true, costs: FREE }), watch];
}

function verdict(load: Load, watch: Watch): void {
  check(watch.problems.length === 0, watch.problems.join("; "));
  const [fault] = load.pool.faults;
  const place = fault?.place === undefined ? "" : ` at ${fault.place}`;
  check(fault === undefined, `never ejected: ejected at ${fault?.time} ns: ${fault?.reason}${place}\n${fault?.dump}`);
}

function adjusted(load: Load, target: Domain | Domain["vcpus"][number] | null, values: Record<string, unknown>): void {
  const errno = load.scheduling.adjust(load.pool, target, values as never);
  check(errno === 0, `${JSON.stringify(values)} is refused with ${errno}`);
}

/** In the middle of everything another instance goes on from the state of the present one. */
function replace(load: Load, watch: Watch): void {
  if (load.pool.scheduler.save === undefined) return;
  const state = JSON.parse(JSON.stringify(load.pool.save()));
  load.scheduling.replaceScheduler(load.pool, { name: "again", plugin: "again", make: watch.make }, state);
}

export function claimedProperties(under: SchedulerUnderTest): SchedulerProperty[] {
  const properties: SchedulerProperty[] = [];
  const add = (name: string, run: (name: string) => void): void => void properties.push({ name, run: () => run(name) });
  if (under.proportionalShare !== undefined) {
    add("shares of hogs are in proportion to their weights, on one pCPU", (name) => proportional(under, name, [1]));
    add("the same on several pCPUs, where nobody has more than one", (name) => proportional(under, name, [2, 3]));
  }
  if (under.cap !== undefined) add("a cap holds in every window, and is used", (name) => capped(under, name));
  if (under.deadlines !== undefined)
    add("budgets that fit are given in every period, whoever has extra time", (name) => deadlines(under, name));
  if (under.extratime !== undefined)
    add("extra time can be switched on and off at any time", (name) => extratime(under, name));
  if (under.extratime?.byBudgets === true)
    add("extra time goes to who has had least of it in its period", () => extraByBudgets(under));
  if (under.frames !== undefined)
    add("frames do not drift, however late they are dispatched: 1000 of them", (name) => frames(under, name));
  if (under.migrationIsNoWake === true) add("a unit that moves gets no turn before others", () => moves(under));
  return properties;
}

// ---- shares --------------------------------------------------------------------------------------

/** Shares of `pcpus` by weights when nobody can have more than one. */
export function fairShares(weights: readonly number[], pcpus: number): number[] {
  const shares = weights.map(() => 0);
  let left = pcpus;
  let open = weights.map((_, i) => i);
  for (;;) {
    const sum = open.reduce((total, i) => total + weights[i]!, 0);
    const full = open.filter((i) => (left * weights[i]!) / sum >= 1);
    if (full.length === 0 || left <= 0) {
      for (const i of open) shares[i] = (left * weights[i]!) / sum;
      return shares;
    }
    for (const i of full) shares[i] = 1;
    left -= full.length;
    open = open.filter((i) => !full.includes(i));
    if (open.length === 0) return shares;
  }
}

function proportional(under: SchedulerUnderTest, name: string, machines: readonly number[]): void {
  const { param, spread = 8, error, errorOnSeveral } = under.proportionalShare!;
  const several = machines[0] !== 1;
  const inputs = fc.record({
    pcpus: fc.constantFrom(...machines),
    weights: fc.array(fc.integer({ min: 4, max: 4 * spread }), { minLength: several ? 3 : 2, maxLength: 6 }),
    restored: fc.boolean(),
  });
  explore(under, {
    name,
    runs: 10,
    inputs,
    body: ({ pcpus, weights, restored }) => {
      const [load, watch] = prepare(under, pcpus);
      const usual = Number(load.pool.scheduler.params?.domain?.[param]?.default);
      const domains = weights.map((weight, i) =>
        load.domain(`d${i}`, [hog], { [param]: Math.round((usual * weight) / 4) }),
      );
      const begin = 1 * SECOND;
      load.run(begin);
      const before = domains.map((d) => load.domainTime(d));
      load.run(begin + 5 * SECOND);
      if (restored) replace(load, watch);
      load.run(begin + 10 * SECOND);
      verdict(load, watch);
      const fair = fairShares(weights, pcpus);
      domains.forEach((d, i) => {
        const share = (load.domainTime(d) - before[i]!) / (10 * SECOND);
        const off = Math.abs(share / fair[i]! - 1);
        check(
          off <= (several ? errorOnSeveral : error),
          `weights ${weights} on ${pcpus} pCPUs: ${d.name} has ${share.toFixed(4)} of a pCPU, its fair share is ${fair[i]!.toFixed(4)}`,
        );
      });
    },
  });
}

// ---- caps ----------------------------------------------------------------------------------------

function capped(under: SchedulerUnderTest, name: string): void {
  const { param, window, slack, atLeast = 0.8 } = under.cap!;
  const inputs = fc.record({
    caps: fc.array(fc.integer({ min: 5, max: 150 }), { minLength: 1, maxLength: 3 }),
    vcpus: fc.integer({ min: 1, max: 2 }),
    sleepers: fc.boolean(),
  });
  explore(under, {
    name,
    runs: 8,
    inputs,
    body: ({ caps, vcpus, sleepers }) => {
      const [load, watch] = prepare(under, 4);
      const begin = 200 * MS;
      const behaviour = (i: number): Behaviour =>
        sleepers && i % 2 === 1 ? () => ({ run: 7 * MS, sleep: 4.1 * MS }) : hog;
      const domains = caps.map((cap, i) => {
        const values = { [param]: Math.min(cap, 100 * vcpus) };
        return load.domain(
          `d${i}`,
          Array.from({ length: vcpus }, () => behaviour(i)),
          values,
        );
      });
      const step = window / 10;
      const history = domains.map((): number[] => []);
      for (let at = begin; at <= begin + 10 * SECOND; at += step) {
        load.run(at);
        domains.forEach((d, i) => {
          history[i]!.push(load.domainTime(d));
        });
      }
      verdict(load, watch);
      const room = caps.reduce((sum, cap) => sum + Math.min(cap, 100 * vcpus), 0) <= 400;
      domains.forEach((d, i) => {
        const share = Math.min(caps[i]!, 100 * vcpus) / 100;
        const times = history[i]!;
        for (let k = 10; k < times.length; k++) {
          const ran = times[k]! - times[k - 10]!;
          check(
            ran <= share * window + slack,
            `${d.name} with a cap of ${share * 100} % ran ${ran} ns of the ${window} ns up to ${begin + k * step}`,
          );
        }
        const all = times.at(-1)! - times[0]!;
        if (room && behaviour(i) === hog)
          check(
            all >= atLeast * share * 10 * SECOND,
            `${d.name} with a cap of ${share * 100} % and pCPUs to itself ran only ${all} ns of ten seconds`,
          );
      });
    },
  });
}

// ---- budgets -------------------------------------------------------------------------------------

function deadlines(under: SchedulerUnderTest, name: string): void {
  const { server, utilisation, late = 0 } = under.deadlines!;
  const one = fc.record({
    period: fc.constantFrom(2, 4, 5, 8, 10, 16, 20, 25, 40, 50, 100),
    part: fc.integer({ min: 1, max: 100 }),
    extra: fc.boolean(),
  });
  const inputs = fc.record({
    servers: fc.array(one, { minLength: 1, maxLength: 5 }),
    /** Units with next to nothing of their own and all the extra time that they can get. */
    greedy: fc.nat(2),
    /** Per cent of what fits. */
    load: fc.oneof(fc.constant(100), fc.integer({ min: 30, max: 100 })),
    restored: fc.boolean(),
  });
  explore(under, {
    name,
    runs: 15,
    inputs,
    body: ({ servers, greedy, load: promised, restored }) => {
      const [load, watch] = prepare(under, 1);
      const small = 20_000;
      const spare = ((utilisation - (greedy * small) / (100 * MS)) * promised) / 100;
      const parts = servers.reduce((sum, s) => sum + s.part, 0);
      const units = servers.map(({ period, part, extra }) => {
        const budget = Math.max(small, Math.floor((spare * (part / parts) * period * MS) / 1000) * 1000);
        return { period: period * MS, budget, extra };
      });
      if (units.reduce((sum, u) => sum + u.budget / u.period, 0) > spare) return;
      for (let i = 0; i < greedy; i++) units.push({ period: 100 * MS, budget: small, extra: true });
      // Parameters of units are set before their first period begins.
      const domains = units.map((_, i) => load.domain(`d${i}`, [hog]));
      domains.forEach((d, i) => {
        adjusted(load, d.vcpus[0]!, server(units[i]!.period, units[i]!.budget, units[i]!.extra));
      });
      for (const d of domains) load.scheduling.pauseDomain(d);
      load.run(1 * SECOND);
      for (const d of domains) load.scheduling.unpauseDomain(d);
      // The first period that begins with these parameters, whatever the policy's grid, begins within a period from now.
      const begin = 1 * SECOND + 200 * MS;
      load.run(begin);
      const before = domains.map((d) => load.domainTime(d));
      const ends = [
        ...new Set(units.flatMap((u) => Array.from({ length: 1000 / (u.period / MS) }, (_, k) => (k + 1) * u.period))),
      ];
      for (const end of ends.sort((a, b) => a - b)) {
        if (restored && end === 500 * MS) replace(load, watch);
        load.run(begin + end);
        units.forEach((u, i) => {
          // In any window of k periods k - 1 lie whole, and of the two at its ends what the budgets leave no room to miss.
          const whole = Math.floor(end / u.period) - 1;
          const ran = load.domainTime(domains[i]!) - before[i]!;
          const least = Math.max(0, whole) * u.budget - late;
          check(
            ran >= least,
            `${domains[i]!.name}, ${u.budget} ns in each ${u.period} ns, has ${ran} ns after ${end} ns, at least ${least} are due (utilisation ${utilisation})`,
          );
        });
      }
      verdict(load, watch);
    },
  });
  if (under.deadlines!.grid === true) exactPeriods(under, name);
}

/** In each period that begins while it could run a unit has its budget, no less and no more, though it slept and woke at odd times before. */
function exactPeriods(under: SchedulerUnderTest, name: string): void {
  const { server, utilisation } = under.deadlines!;
  const inputs = fc.record({
    period: fc.constantFrom(5, 10, 20),
    budget: fc.integer({ min: 1, max: 9 }),
    rival: fc.integer({ min: 1, max: 9 }),
    extra: fc.boolean(),
    /** Naps: how much it runs first, and how long it sleeps then, in hundredths of its period. */
    naps: fc.array(fc.tuple(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 1, max: 250 })), {
      minLength: 1,
      maxLength: 3,
    }),
  });
  explore(under, {
    name,
    part: "grid",
    runs: 60,
    inputs,
    body: ({ period, budget, rival, extra, naps }) => {
      const [load, watch] = prepare(under, 1);
      const length = period * MS;
      const share = Math.min(utilisation, budget / 10);
      const rest = Math.min(utilisation - share, rival / 10);
      if (rest < 0.01) return;
      const [own, others] = [share, rest].map((u) => Math.floor((u * length) / 1000) * 1000);
      let nap = 0;
      const napper: Behaviour = () => {
        const [run, sleep] = naps[nap++] ?? [];
        if (run === undefined || sleep === undefined) return { run: 1e12, sleep: 0 };
        return { run: 1000 + Math.floor((length * run) / 100), sleep: Math.floor((length * sleep) / 100) };
      };
      const one = load.domain("one", [napper], server(length, own!, false));
      load.domain("other", [hog], server(length, others!, extra));
      for (let k = 0; k < 60; k++) {
        load.run(k * length);
        const awake = nap > naps.length;
        const before = load.domainTime(one);
        load.run((k + 1) * length);
        const ran = load.domainTime(one) - before;
        check(
          ran <= own! && (!awake || ran === own!),
          `period ${k}: ${ran} ns for ${own} in each ${length} ns without extra time, ${others} of another; naps ${naps}`,
        );
      }
      verdict(load, watch);
    },
  });
}

function extratime(under: SchedulerUnderTest, name: string): void {
  const { param, server } = under.extratime!;
  const inputs = fc.record({
    period: fc.constantFrom(5, 10, 20),
    budget: fc.integer({ min: 1, max: 9 }),
    toggles: fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 8 }),
  });
  explore(under, {
    name,
    runs: 20,
    inputs,
    body: ({ period, budget, toggles }) => {
      const [load, watch] = prepare(under, 1);
      const length = period * MS;
      const share = (length * budget) / 10;
      const unit = load.domain("unit", [hog]);
      const [vcpu] = unit.vcpus;
      adjusted(load, vcpu!, { ...server(length, share), [param]: false });
      load.run(5 * length);
      let on = false;
      for (const toggle of toggles) {
        // Anywhere in a period: while it has budget, while it is depleted, while it has extra time.
        load.run(load.machine.now + Math.floor((toggle / 100) * length));
        on = !on;
        adjusted(load, vcpu!, { [param]: on });
        const from = load.domainTime(unit);
        const at = load.machine.now;
        load.run(at + 2 * length);
        const ran = load.domainTime(unit) - from;
        check(
          ran >= (on ? length : share),
          `${param} switched ${on ? "on" : "off"} at ${at}: ${ran} ns of ${2 * length} ns with ${share} in each ${length}`,
        );
        if (!on) {
          load.run(at + 4 * length);
          const then = load.domainTime(unit);
          load.run(at + 9 * length);
          const used = load.domainTime(unit) - then;
          check(
            used >= 4 * share && used <= 6 * share,
            `without extra time ${used} ns in five periods of ${length} ns with ${share} each`,
          );
        }
      }
      verdict(load, watch);
    },
  });
}

/** Who has had extra time a hundred thousand times waits until a newcomer has caught up. */
function extraByBudgets(under: SchedulerUnderTest): void {
  const { param, server } = under.extratime!;
  const [period, budget] = [100 * SECOND, 10_000];
  for (const alone of [3, 30, 1000]) {
    const [load, watch] = prepare(under, 1);
    const [one, other] = ["one", "other"].map((name) => load.domain(name, [hog]));
    for (const domain of [one!, other!]) {
      load.scheduling.pauseDomain(domain);
      adjusted(load, domain.vcpus[0]!, { ...server(period, budget), [param]: true });
    }
    // Both begin their first period with these parameters.
    load.run(1 * SECOND);
    load.scheduling.unpauseDomain(one!);
    load.scheduling.unpauseDomain(other!);
    load.run(1 * SECOND + 10 * budget);
    load.scheduling.pauseDomain(other!);
    load.run(load.machine.now + alone * MS);
    const ahead = load.domainTime(one!) - load.domainTime(other!);
    load.scheduling.unpauseDomain(other!);
    const [before, from] = [load.domainTime(one!), load.machine.now];
    load.run(from + Math.floor(ahead * 0.9));
    const more = load.domainTime(one!) - before;
    verdict(load, watch);
    check(
      more <= 4 * budget,
      `one has had ${ahead} ns of extra time more than the other, and gets ${more} ns before that has caught up`,
    );
  }
}

// ---- windows -------------------------------------------------------------------------------------

function frames(under: SchedulerUnderTest, name: string): void {
  const { table } = under.frames!;
  const inputs = fc.record({
    windows: fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 6 }),
    gap: fc.integer({ min: 0, max: 10 }),
    /** doSchedule comes so late at most, and so do timers. */
    dispatch: fc.integer({ min: 0, max: 240_000 }),
    seed: fc.nat(1000),
  });
  explore(under, {
    name,
    runs: 6,
    inputs,
    body: ({ windows, gap, dispatch, seed }) => {
      const [load, watch] = prepare(under, 1, { ...CALM, length: 1e15, dispatch, late: dispatch, seed });
      const domains = windows.map((_, i) => load.domain(`d${i}`, [hog]));
      const lengths = windows.map((w) => w * 500_000);
      const major = lengths.reduce((sum, l) => sum + l, 0) + gap * 500_000;
      const rows = domains.map((d, i) => ({ domain: d.name, vcpu: 0, time: lengths[i]! }));
      load.run(7 * MS);
      adjusted(load, null, table(rows, major) as Record<string, unknown>);
      const begin = load.machine.now;
      const offsets = lengths.map((_, i) => lengths.slice(0, i).reduce((sum, l) => sum + l, 0));
      const starts = domains.map(() => 0);
      load.machine.hooks.contextSwitch.tap("frames", (_pcpu, _previous, next, now) => {
        const i = next === null ? -1 : domains.indexOf(next.domain);
        if (i < 0 || now < begin) return;
        starts[i]!++;
        const behind = (now - begin - offsets[i]! + major) % major;
        if (behind > 2 * dispatch)
          watch.problem(
            "the claimed invariant",
            `window ${i} of ${lengths} in ${major} begins ${behind} ns late in frame ${Math.floor((now - begin) / major)}`,
          );
      });
      const before = domains.map((d) => load.domainTime(d));
      const count = 1000;
      load.run(begin + count * major);
      verdict(load, watch);
      domains.forEach((d, i) => {
        const ran = load.domainTime(d) - before[i]!;
        const off = Math.abs(ran - count * lengths[i]!);
        check(off <= 2 * (count + 1) * dispatch, `${d.name} ran ${ran} ns in ${count} windows of ${lengths[i]} ns`);
        check(Math.abs(starts[i]! - count) <= 1, `${d.name} had ${starts[i]} windows in ${count} frames`);
      });
    },
  });
}

// ---- moves ---------------------------------------------------------------------------------------

/**
 * A hog that waits is given its affinity once more. Whether it runs soon after is compared with the same run without that: a move is lawful
 * reason to wait longer, none to run earlier.
 */
function moves(under: SchedulerUnderTest): void {
  let tried = 0;
  for (const hogs of [2, 3, 4])
    for (let at = 101 * MS; at < 1 * SECOND; at += 23 * MS) {
      const runsSoon = (move: boolean): boolean | null => {
        const [load, watch] = prepare(under, 1);
        const [one] = Array.from({ length: hogs }, (_, i) => load.domain(`d${i}`, [hog]))[0]!.vcpus;
        load.run(at);
        if (one!.runningOn !== null) return null;
        const before = load.cpuTime(one!);
        if (move) load.scheduling.setAffinity(one!, new Set([0]), new Set([0]));
        load.run(at + 3 * MS);
        verdict(load, watch);
        return load.cpuTime(one!) > before;
      };
      const stays = runsSoon(false);
      if (stays === null) continue;
      tried++;
      check(
        stays || runsSoon(true) === false,
        `of ${hogs} hogs one that waits at ${at} ns runs within 3 ms when it is moved, and does not when it stays`,
      );
    }
  check(tried >= 20, `only ${tried} moves of a waiting unit could be tried`);
}
