/**
 * Carries a plan out on the real core and checks, as it goes, what must hold whatever the policy.
 *
 * A trial has two parts. In the first what the plan says happens. In the second everything is unpaused, every behaviour becomes a hog, nothing
 * is disturbed any more, and each unit that is entitled must run within a bound: nobody has been lost.
 * Two equal trials give equal traces.
 */
import type { Domain } from "../../../core/domain/domain.ts";
import type { RunState, Vcpu } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import { defaultMachine } from "../../../core/machine/machine.ts";
import type { CpuPool } from "../../../core/scheduling/cpupool.ts";
import { PoolError, Pools } from "../../../core/scheduling/pools.ts";
import type { ParamSpecs, ParamValues } from "../../../core/scheduling/scheduler.ts";
import { runStateTime, type Unit } from "../../../core/scheduling/unit.ts";
import { type Behaviour, Load } from "../../support/load.ts";
import { check, type Invariant, MS, type SchedulerUnderTest, SECOND, starvationBound } from "./contract.ts";
import { Failure } from "./explore.ts";
import { type EventPlan, LENGTH, type Plan, type VcpuPlan } from "./plan.ts";
import { affinity, count, pcpusOf, setting, time } from "./story.ts";
import { type Names, within } from "./values.ts";
import { canonical, Watch } from "./watch.ts";

/** A unit that could run may wait for so long once parameters have been changed: the core's own watchdog. */
const WATCHDOG = 30 * SECOND;

export class Trial {
  readonly load: Load;
  readonly pools: Pools;
  readonly watch: Watch;
  readonly trace: string[] = [];
  /** The same in words: the setting, then what happens and what does not hold, with times. */
  readonly story: string[];
  readonly #under: SchedulerUnderTest;
  readonly #plan: Plan;
  readonly #provider;
  readonly #domains: Domain[] = [];
  readonly #since = new Map<Vcpu, number>();
  #calm = false;
  #changed = false;

  /** `inspect`: check the state after each decision, as far as the scheduler claims something of it. */
  constructor(under: SchedulerUnderTest, plan: Plan, inspect = false) {
    this.#under = under;
    this.#plan = plan;
    this.watch = new Watch(under, plan.disturbance, inspect);
    this.story = setting(plan);
    const { cores, threads, coresPerSocket, granularity, lazy } = plan;
    this.load = new Load(this.watch.make, {
      pcpus: cores * threads,
      threadsPerCore: threads,
      coresPerSocket,
      granularity,
      lazy,
      costs: { ...defaultMachine.costs, contextSwitch: 500 },
    });
    const { machine, scheduling } = this.load;
    let told = 0;
    this.watch.onProblem = (line) => {
      if (told++ < 3) this.#tell(`DOES NOT HOLD: ${line.split("\n", 1)[0]}`);
    };
    machine.hooks.pluginFault.tap("conformance", ({ reason, place }) => {
      this.#tell(`the scheduler is ejected: ${reason}${place === undefined ? "" : ` at ${place}`}`);
      return undefined;
    });
    this.#provider = { name: under.name, plugin: under.name, make: this.watch.make };
    this.pools = new Pools(machine, scheduling, () => this.#provider);
    machine.hooks.contextSwitch.tap("conformance", (pcpu, previous, next, now) => {
      this.trace.push(`${now} ${pcpu.id} ${name(previous)} ${name(next)}`);
      if (next !== null) this.#checkPlace(next, pcpu);
    });
    if (plan.second && cores > 1) {
      const last = this.#core(cores - 1);
      this.pools.remove(this.load.pool, last);
      this.pools.create({ name: "second", scheduler: under.name, cpus: last, granularity });
    }
    for (const domain of plan.domains) this.#create(domain);
    for (const event of [...plan.events].sort((a, b) => a.at - b.at))
      machine.timers.arm(event.at, () => this.#happen(event));
  }

  /** pCPUs of a core, which with one-pCPU granularity need not come and go together. */
  #core(index: number): number[] {
    const { threads, cores } = this.#plan;
    return Array.from({ length: threads }, (_, i) => (index % cores) * threads + i);
  }

  #problem(invariant: Invariant, text: string): void {
    this.watch.problem(invariant, text);
  }

  /** What happens, in words, at its virtual time. */
  #tell(text: string): void {
    this.story.push(`${time(this.load.machine.now)}: ${text}`);
  }

  #checkPlace(vcpu: Vcpu, pcpu: { readonly id: number; readonly resource: Unit["runningOn"] }): void {
    const unit = vcpu.unit as Unit | null;
    const { resource } = pcpu;
    const running = this.load.machine.pcpus.map((p) => p.current).filter((v) => v !== null);
    if (new Set(running).size !== running.length) this.#problem("decisions are lawful", `${vcpu} runs on two pCPUs`);
    if (unit === null || resource === null || unit.pool !== resource.pool)
      this.#problem("decisions are lawful", `${vcpu} runs on pCPU ${pcpu.id}, which is not in its pool`);
    else if (!unit.hardAffinity.has(resource.id))
      this.#problem("decisions are lawful", `${vcpu} runs on pCPU ${pcpu.id} outside its affinity`);
    if (!vcpu.runnable) this.#problem("decisions are lawful", `${vcpu} was put on pCPU ${pcpu.id}, but cannot run`);
    for (const other of resource?.pcpus ?? [])
      if (other.current !== null && other.current.unit !== unit)
        this.#problem("decisions are lawful", `${vcpu} and ${other.current} of another unit share ${resource}`);
  }

  // ---- domains ---------------------------------------------------------------------------------

  #behaviour({ run, sleep }: VcpuPlan): Behaviour {
    return () => (this.#calm || sleep === 0 ? { run: 1e12, sleep: 0 } : { run, sleep });
  }

  #create(vcpus: readonly VcpuPlan[]): void {
    const { machine } = this.load;
    const domain = this.load.domain(
      `d${this.#domains.length}`,
      vcpus.map((v) => this.#behaviour(v)),
    );
    machine.domains.set(domain.id, domain);
    this.#domains.push(domain);
    for (const vcpu of domain.vcpus) this.#since.set(vcpu, machine.now);
    vcpus.forEach((v, i) => {
      if (v.hard !== 0 || v.soft !== 0) this.#affine(domain.vcpus[i]!, v.hard, v.soft);
    });
  }

  #affine(vcpu: Vcpu, hard: number, soft: number): void {
    const set = (mask: number): Set<number> => new Set(pcpusOf(mask, this.load.machine.pcpus.length));
    try {
      this.load.scheduling.setAffinity(vcpu, set(hard), set(soft));
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
    }
  }

  get #live(): Domain[] {
    return this.#domains.filter((domain) => domain.vcpus.some((vcpu) => vcpu.unit !== null));
  }

  // ---- events ----------------------------------------------------------------------------------

  #happen(event: EventPlan): void {
    this.trace.push(`${this.load.machine.now} ${event.what}`);
    const before = this.story.length;
    try {
      this.#happenToMachine(event);
      const domain = at(this.#live, event.a);
      const vcpu = domain === undefined ? undefined : at(domain.vcpus, event.b);
      if (domain !== undefined && vcpu !== undefined && vcpu.unit !== null) this.#happenToDomain(event, domain, vcpu);
    } catch (error) {
      // What the core's pools refuse (the last pCPU, an offline one) is no concern of the scheduler.
      if (!(error instanceof PoolError)) throw error;
      this.trace.push(`${error.errno}`);
      this.#tell(`the core refuses: ${error.message}`);
    }
    if (this.story.length === before) this.#tell(`${event.what}: nothing comes of it`);
  }

  #happenToMachine({ what, a, b, x }: EventPlan): void {
    const pool = at(this.load.scheduling.pools, a)!;
    if (what === "offline") {
      this.#tell(`pCPU ${this.#core(a)} goes offline`);
      this.pools.offline(this.#core(a));
    } else if (what === "online") {
      this.#tell(`pCPU ${this.#core(a)} comes online`);
      this.pools.online(this.#core(a));
    } else if (what === "replace") this.#replace(pool);
    else if (what === "poolParam") this.#param("pool", pool, null, b, x);
    else if (what === "create" && this.#domains.length < 12 && this.load.pool.resources.length > 0) {
      const index = a % this.#plan.domains.length;
      const made = this.#plan.domains[index]!;
      this.#tell(`d${this.#domains.length} is made, ${count(made.length, "vCPU")} like those of d${index}`);
      this.#create(made);
    }
  }

  #happenToDomain({ what, b, x }: EventPlan, domain: Domain, vcpu: Vcpu): void {
    const { scheduling } = this.load;
    const { pool } = vcpu.unit as Unit;
    const [one, all] = [`${domain.name}.${vcpu.id}`, domain.name];
    switch (what) {
      case "pause":
        this.#tell(`${one} is paused`);
        scheduling.pauseVcpu(vcpu);
        break;
      case "unpause":
        if (vcpu.pauseCount === 0) break;
        this.#tell(`${one} is unpaused`);
        scheduling.unpauseVcpu(vcpu);
        break;
      case "yield":
        this.#tell(`${one} yields`);
        scheduling.yieldNow(vcpu);
        break;
      case "pauseDomain":
        this.#tell(`domain ${all} is paused`);
        scheduling.pauseDomain(domain);
        break;
      case "unpauseDomain":
        if (domain.pauseCount === 0) break;
        this.#tell(`domain ${all} is unpaused`);
        scheduling.unpauseDomain(domain);
        break;
      case "affinity":
        this.#tell(`${one} gets another affinity${affinity({ hard: b, soft: x }, this.load.machine.pcpus.length)}`);
        this.#affine(vcpu, b, x);
        break;
      case "move":
        this.#tell(`domain ${all} moves to pool '${at(scheduling.pools, b)!.name}'`);
        this.pools.move(domain, at(scheduling.pools, b)!);
        break;
      case "destroy":
        if (this.#live.length === 1) break;
        this.#tell(`domain ${all} is destroyed`);
        for (const each of domain.vcpus) scheduling.removeVcpu(each);
        break;
      case "domainParam":
        this.#param("domain", pool, domain, b, x);
        break;
      case "unitParam":
        this.#param("unit", pool, vcpu, b, x);
        break;
    }
  }

  #param(kind: "pool" | "domain" | "unit", pool: CpuPool, target: Domain | Vcpu | null, how: number, x: number): void {
    const specs: ParamSpecs = pool.scheduler.params?.[kind] ?? {};
    const names = Object.keys(specs);
    if (names.length === 0 || pool.fallen) return;
    const values: Record<string, ParamValues[string]> = {};
    // One parameter, or several at once.
    names.forEach((param, i) => {
      if (i === x % names.length || (how >> i) % 3 === 1)
        values[param] = within(specs[param]!, how >> 2, (x + 17 * i) % 1024, this.#names(param));
    });
    const subject = target === null || "vcpus" in target ? target : target.unit;
    const before = pool.read(subject);
    const whose = target === null ? `pool '${pool.name}'` : "vcpus" in target ? `domain ${target.name}` : target;
    const set = Object.entries(values).map(([param, value]) => `${param} = ${JSON.stringify(value)}`);
    this.#tell(`${whose}: ${set.join(", ")}`);
    const errno = this.load.scheduling.adjust(pool, target, values);
    if (pool.fallen) return;
    if (errno !== 0) this.#tell(`the scheduler refuses that with ${errno}`);
    const after = pool.read(subject);
    this.#changed = true;
    this.trace.push(`${errno} ${canonical(after)}`);
    checkAdjusted(values, errno, before, after, (text) => this.#problem("parameters are kept", text));
  }

  #names(param: string): Names {
    const domains = this.#live.map(({ name, uuid, vcpus }) => ({ name, uuid, vcpus: vcpus.length }));
    const { rows } = this.#under;
    return {
      texts: domains.flatMap((d) => [d.name, d.uuid]).concat("nobody"),
      ...(rows === undefined ? {} : { rows: () => rows(param, domains) }),
    };
  }

  /** Another instance of the scheduler goes on from the state of this one. */
  #replace(pool: CpuPool): void {
    if (pool.fallen) return;
    const keeps = pool.scheduler.save !== undefined;
    const subjects = [null, ...new Set([...pool.units].map((unit) => unit.domain)), ...pool.units];
    const read = (): string[] => subjects.map((subject) => canonical(pool.read(subject)));
    const before = read();
    this.#tell(
      `pool '${pool.name}': another instance ${keeps ? "goes on from the state of this one" : "takes over and starts afresh"}`,
    );
    const state = JSON.parse(JSON.stringify(pool.save()));
    this.load.scheduling.replaceScheduler(pool, this.#provider, state);
    if (!keeps || pool.fallen) return;
    read().forEach((values, i) => {
      if (values !== before[i])
        this.#problem(
          "parameters are kept",
          `parameters of ${subjects[i] ?? "the pool"} were ${before[i]}, and are ${values} after a restore`,
        );
    });
  }

  // ---- the two parts ---------------------------------------------------------------------------

  /** Carries everything out; throws when something does not hold. `after` is called after each step of the first part. */
  run(after?: () => void): string {
    try {
      return this.#run(after);
    } catch (error) {
      throw new Failure(error instanceof Error ? error.message : String(error), this.story, { cause: error });
    }
  }

  #run(after?: () => void): string {
    const { load } = this;
    if (after === undefined) load.run(LENGTH);
    else
      while (load.loop.step(LENGTH) === "ran") {
        after();
        if (this.watch.problems.length > 0) break;
      }
    this.#verdict();
    this.#settle();
    this.#verdict();
    this.#checkTimes();
    return this.trace.join("\n");
  }

  #verdict(): void {
    check(this.watch.problems.length === 0, this.watch.problems.join("; "));
    for (const { faults } of this.load.scheduling.pools)
      if (faults[0] !== undefined) {
        const { reason, place, time: at, dump } = faults[0];
        throw new Error(
          `never ejected: ejected at ${at} ns: ${reason}${place === undefined ? "" : ` at ${place}`}\n${dump}`,
        );
      }
  }

  /** Everybody wants to run now: who is entitled does, within the bound. */
  #settle(): void {
    const { load } = this;
    const { scheduling, machine } = load;
    this.#calm = true;
    this.#tell("all is unpaused and quiet, and everybody wants to run from now on");
    for (const domain of this.#live) {
      while (domain.pauseCount > 0) scheduling.unpauseDomain(domain);
      for (const vcpu of domain.vcpus) while (vcpu.pauseCount > 0) scheduling.unpauseVcpu(vcpu);
    }
    // The longest sleep of a behaviour is over then, and the disturbance too.
    const begin = machine.now + 50 * MS;
    load.run(begin);
    const units = scheduling.pools.flatMap((pool) => [...pool.units]);
    const before = new Map(units.map((unit) => [unit, unit.runTime]));
    const bound = this.#changed ? WATCHDOG : starvationBound(this.#under, units.length) + 50 * MS;
    const waiting = (): Unit[] =>
      units.filter(
        (unit) => unit.runnable && unit.runTime <= before.get(unit)! && unit.pool.scheduler.entitled?.(unit) !== false,
      );
    let step = 10 * MS;
    while (waiting().length > 0 && machine.now < begin + bound) {
      // Nothing will ever happen: whoever waits now waits for ever.
      if (load.run(Math.min(begin + bound, machine.now + step)) === "idle") break;
      step *= 2;
      if (this.watch.problems.length > 0 || scheduling.pools.some((p) => p.fallen)) return;
    }
    const [lost] = waiting();
    if (lost !== undefined)
      this.#problem(
        "nobody is lost",
        `${lost} of ${units.length} units could run since ${lost.waitsSince} ns, is entitled, and has not at ${machine.now} ns${machine.now < begin + bound ? "; it never will" : ""}\n${lost.pool.scheduler.dump?.() ?? ""}`,
      );
  }

  #checkTimes(): void {
    for (const domain of this.#domains)
      for (const vcpu of domain.vcpus) {
        const now = vcpu.runningOn?.time ?? Math.max(this.load.machine.now, vcpu.runStateSince);
        const total = [0, 1, 2, 3].reduce((sum, state) => sum + runStateTime(vcpu, state as RunState, now), 0);
        const age = now - this.#since.get(vcpu)!;
        check(
          Math.abs(total - age) < 1,
          `runstate times add up: runstate times of ${vcpu} add up to ${total}, not to its age of ${age}`,
        );
      }
  }
}

/** What an adjust must have done: all that was asked for (what else follows from it is the policy's), or nothing. */
export function checkAdjusted(
  values: ParamValues,
  errno: number,
  before: ParamValues,
  after: ParamValues,
  problem: (text: string) => void,
): void {
  if (!Number.isInteger(errno) || errno > 0 || errno < -4095) problem(`adjust answered ${errno}, which is no errno`);
  const wanted = errno === 0 && Object.keys(values).length > 0 ? values : before;
  for (const param of Object.keys(wanted))
    if (canonical(after[param]) !== canonical(wanted[param]))
      problem(
        `${JSON.stringify(values)} answered ${errno}, and '${param}' reads ${canonical(after[param])}, not ${canonical(wanted[param])}`,
      );
}

function at<T>(list: readonly T[], index: number): T | undefined {
  return list[index % list.length];
}

function name(vcpu: Vcpu | null): string {
  return vcpu === null ? "-" : `${vcpu.domain.id}.${vcpu.id}`;
}
