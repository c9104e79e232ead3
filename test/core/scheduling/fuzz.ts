/**
 * Random trials of the scheduling core: a machine on which anything happens at any moment, from timers, from between two steps, from within a vCPU's
 * exit and from hooks, with governors, costs and every granularity; guests that run in one piece or in quanta.
 *
 * After each few steps everything that core promises of itself is checked: who runs where, runstates, what schedulers were told, clocks, and that a
 * guest's run time is what it was let do. A trial follows from its seed alone.
 */
import type { ArchBackend, Exit } from "../../../core/architecture/arch-backend.ts";
import { ExitCode } from "../../../core/architecture/arch-backend.ts";
import { Domain } from "../../../core/domain/domain.ts";
import { PauseFlag, RunState, Vcpu } from "../../../core/domain/vcpu.ts";
import { ConfigError } from "../../../core/errors.ts";
import type { Hypercalls } from "../../../core/hypercall/dispatcher.ts";
import { Result } from "../../../core/hypercall/table.ts";
import type { GovernorHost } from "../../../core/machine/governor.ts";
import { defaultMachine, Machine } from "../../../core/machine/machine.ts";
import type { SchedulerProvider } from "../../../core/scheduling/cpupool.ts";
import { Pools } from "../../../core/scheduling/pools.ts";
import type { Granularity } from "../../../core/scheduling/resource.ts";
import { RunLoop } from "../../../core/scheduling/run-loop.ts";
import { Scheduling } from "../../../core/scheduling/scheduling.ts";
import { runStateTime, Unit } from "../../../core/scheduling/unit.ts";

const MS = 1e6;
const END = 150 * MS;
const MOST_STEPS = 200_000;
/** Instructions that the run loop charges for any exit of a guest that runs in quanta. */
const EXIT = 200;
const FREE = { contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 };
const ABI = { name: "fuzz", pageShift: 12, wordBytes: 8, endian: "little", align64: 8, legacyVcpus: 1 } as const;

/** Whole numbers below a bound. */
type Dice = (below: number) => number;

function dice(seed: number): Dice {
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0;
  return (below) => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return ((z ^ (z >>> 16)) >>> 0) % below;
  };
}

/** What a guest does: so many instructions, then an exit. */
interface Doing {
  left: number;
  exit: ExitCode;
  sleep: number;
  /** Instructions that it has retired, and exits that it has made. */
  work: number;
  exits: number;
}

/** One trial. */
export class Trial {
  readonly #r: Dice;
  readonly #machine: Machine;
  readonly #scheduling: Scheduling;
  readonly #loop: RunLoop;
  readonly #pools: Pools;
  readonly #provider: SchedulerProvider;
  readonly #domains: Domain[] = [];
  readonly #doing = new Map<Vcpu, Doing>();
  /** Pauses to be taken back. */
  readonly #paused = new Map<Domain | Vcpu, number>();
  readonly #clocks: number[];
  readonly #exact: boolean;
  /** 0: guests run in quanta, 1: in one piece, 2: either. */
  readonly #lazy: number;
  #made = 0;
  #acting = false;
  #problem: string | null = null;
  readonly #log: string[] = [];

  constructor(provider: SchedulerProvider, seed: number) {
    const r = dice(seed);
    this.#r = r;
    this.#provider = provider;
    const threadsPerCore = 1 + r(2);
    const cores = 1 + r(4);
    const granularity = (["cpu", "core", "socket"] satisfies Granularity[])[r(3)]!;
    this.#lazy = r(3);
    const governed = r(3) === 0;
    const free = r(2) === 0;
    // Where guests pay for exits, the threads of a core wait for one another.
    this.#exact = free && !governed && (this.#lazy === 1 || granularity === "cpu");
    this.#machine = new Machine({
      ...defaultMachine,
      memoryMiB: 1,
      pcpus: threadsPerCore * cores,
      threadsPerCore,
      coresPerSocket: cores % 2 === 0 ? 2 : 1,
      seed,
      // Switches that cost more than any slice, too.
      costs: free ? FREE : { ...FREE, contextSwitch: r(2) * 15 * MS, tickle: 300, warmUp: 5000, coldAfter: 100_000 },
      ...(governed ? { frequencies: [500, 1000], idleStates: [state("C1", 0), state("C2", 30_000)] } : {}),
    });
    const { machine } = this;
    this.#clocks = machine.pcpus.map(() => 0);
    this.#scheduling = new Scheduling(machine);
    this.#pools = new Pools(machine, this.#scheduling, () => provider);
    this.#scheduling.createPool("Pool-0", machine.pcpus, provider, granularity);
    const hypercalls = {
      dispatch: (vcpu: Vcpu) => {
        this.#act(vcpu, "exit");
        return vcpu.unit === null ? Result.noReturn : 0;
      },
    };
    this.#loop = new RunLoop(machine, this.#scheduling, {
      hypercalls: hypercalls as unknown as Hypercalls,
      pump: () => {},
      io: () => {},
      crash: (vcpu, reason) => this.#wrong(`${vcpu} crashed: ${reason}`),
    });
    if (governed)
      for (const pcpu of machine.pcpus)
        this.#scheduling.govern(pcpu, { name: "any", plugin: "fuzz", make: (host) => this.#governor(host) });
    if (r(3) === 0) this.#hookPauses();
  }

  get machine(): Machine {
    return this.#machine;
  }

  /** Null: nothing was wrong. */
  run(): string | null {
    for (let i = 0; i < 3; i++) this.#create();
    for (let i = 0; i < 2; i++) this.#arm();
    let steps = 0;
    try {
      while (this.#problem === null && this.machine.now < END) {
        if (this.#loop.step(END) !== "ran") break;
        if (++steps > MOST_STEPS) this.#wrong("it does not come to an end");
        if (this.#r(40) === 0) this.#act(null, "step");
        if (steps % 3 === 0) this.#check();
      }
      this.#check();
    } catch (error) {
      this.#wrong(error instanceof Error ? String(error.stack) : String(error));
    }
    if (this.#problem === null) return null;
    return `step ${steps}, ${this.machine.now} ns: ${this.#problem}\n  ${this.#log.slice(-5).join("\n  ")}`;
  }

  #wrong(problem: string): void {
    this.#problem ??= problem;
  }

  // ---- guests ----------------------------------------------------------------------------------

  #create(): void {
    const r = this.#r;
    const id = ++this.#made;
    const domain = new Domain({ id, uuid: `fuzz-${id}`, type: "fuzz" }, `d${id}`, this.#arch(), ABI);
    const pool = this.#scheduling.pools[r(this.#scheduling.pools.length)]!;
    const cpus = this.machine.pcpus.map((pcpu) => pcpu.id);
    const count = 1 + r(5);
    for (let v = 0; v < count; v++) {
      const vcpu = new Vcpu(domain, v, this.machine.now, cpus);
      domain.vcpus.push(vcpu);
      this.#doing.set(vcpu, { left: 0, exit: ExitCode.yield, sleep: 0, work: 0, exits: 0 });
      this.#scheduling.addVcpu(vcpu, pool);
    }
    this.#domains.push(domain);
    for (const vcpu of domain.vcpus) this.#scheduling.clearFlag(vcpu, PauseFlag.down);
  }

  #destroy(domain: Domain): void {
    for (const vcpu of domain.vcpus) {
      this.#scheduling.removeVcpu(vcpu);
      this.#paused.delete(vcpu);
    }
    this.#paused.delete(domain);
    this.#domains.splice(this.#domains.indexOf(domain), 1);
  }

  #arch(): ArchBackend {
    const lazy = this.#lazy === 2 ? this.#r(2) === 0 : this.#lazy === 1;
    return {
      run: (vcpu: Vcpu, budget: number, exit: Exit) => this.#run(vcpu, budget, exit),
      eventsDeliverable: () => false,
      finishHypercall: () => {},
      ...(lazy ? { horizon: (vcpu: Vcpu) => this.#next(vcpu).left } : {}),
    } as unknown as ArchBackend;
  }

  #next(vcpu: Vcpu): Doing {
    const r = this.#r;
    const doing = this.#doing.get(vcpu)!;
    if (doing.left > 0) return doing;
    doing.left = 1000 + r(4 * MS);
    doing.exit = r(10) < 6 ? ExitCode.halt : r(3) === 0 ? ExitCode.hypercall : ExitCode.yield;
    doing.sleep = r(3 * MS);
    return doing;
  }

  #run(vcpu: Vcpu, budget: number, exit: Exit): number {
    if (!vcpu.runnable) this.#wrong(`${vcpu} is run, and is not runnable`);
    const doing = this.#next(vcpu);
    const retired = Math.min(budget, doing.left);
    doing.left -= retired;
    doing.work += retired;
    if (doing.left > 0) return retired;
    doing.exits++;
    exit.code = doing.exit;
    exit.nr = 1;
    if (doing.exit === ExitCode.halt)
      this.machine.timers.arm(vcpu.runningOn!.after(retired) + doing.sleep, () => {
        if (vcpu.unit !== null) this.#scheduling.clearFlag(vcpu, PauseFlag.blocked);
      });
    return retired;
  }

  // ---- what happens ----------------------------------------------------------------------------

  #arm(): void {
    this.machine.timers.arm(this.machine.now + this.#r(4 * MS), () => {
      this.#act(null, "timer");
      this.#arm();
    });
  }

  #governor(host: GovernorHost): object {
    const r = this.#r;
    const change = (): void => host.setFrequency(host.frequencies[r(2)]!);
    const tick = (at: number): void =>
      void host.timer(at, (now) => {
        change();
        tick(now + 1 + r(3 * MS));
      });
    tick(r(MS));
    return {
      busy: () => {
        if (r(3) === 0) change();
      },
      idle: () => {
        if (r(3) === 0) change();
        return r(2);
      },
    };
  }

  /** Hooks that pause whom they are told of, now and then. */
  #hookPauses(): void {
    const pause = (vcpu: Vcpu | null): void => {
      if (vcpu === null || this.#acting || this.#r(40) !== 0) return;
      this.#acting = true;
      this.#pause(vcpu);
      if (this.#r(4) === 0) this.#unpause(vcpu);
      this.#acting = false;
    };
    this.machine.hooks.contextSwitch.tap("fuzz", (_pcpu, previous, next) => pause(next ?? previous));
    this.machine.hooks.runstate.tap("fuzz", (vcpu) => pause(vcpu));
  }

  #pause(what: Domain | Vcpu): void {
    this.#paused.set(what, (this.#paused.get(what) ?? 0) + 1);
    if (what instanceof Domain) this.#scheduling.pauseDomain(what);
    else this.#scheduling.pauseVcpu(what);
  }

  #unpause(what: Domain | Vcpu): void {
    const count = this.#paused.get(what)!;
    if (count === 1) this.#paused.delete(what);
    else this.#paused.set(what, count - 1);
    if (what instanceof Domain) this.#scheduling.unpauseDomain(what);
    else this.#scheduling.unpauseVcpu(what);
  }

  #act(self: Vcpu | null, where: string): void {
    if (this.#acting) return;
    const r = this.#r;
    const what = r(14);
    const domain = this.#domains[r(Math.max(1, this.#domains.length))];
    const vcpu = self !== null && r(2) === 0 ? self : domain?.vcpus[r(domain.vcpus.length)];
    this.#log.push(`${this.machine.now} ns, ${where}: ${what} ${vcpu}`);
    this.#acting = true;
    try {
      if (domain !== undefined && vcpu !== undefined) this.#do(what, domain, vcpu);
      else this.#create();
    } catch (error) {
      // Refusals are lawful.
      if (!(error instanceof ConfigError)) throw error;
    } finally {
      this.#acting = false;
    }
  }

  #do(what: number, domain: Domain, vcpu: Vcpu): void {
    const r = this.#r;
    const { machine } = this;
    const scheduling = this.#scheduling;
    const pools = this.#pools;
    const pcpu = machine.pcpus[r(machine.pcpus.length)]!;
    const { resource } = pcpu;
    const pool = scheduling.pools[r(scheduling.pools.length)]!;
    const some = (): Set<number> => new Set(machine.pcpus.filter(() => r(2) === 0).map(({ id }) => id));
    switch (what) {
      case 0:
        this.#pause(vcpu);
        break;
      case 1:
        this.#pause(domain);
        break;
      case 2:
      case 3: {
        const [one] = [...this.#paused.keys()].slice(r(Math.max(1, this.#paused.size)));
        if (one !== undefined) this.#unpause(one);
        break;
      }
      case 4:
        pools.offline([pcpu.id]);
        break;
      case 5:
        if (resource !== null) pools.offline(resource.cpus);
        break;
      case 6:
        pools.online(machine.pcpus.filter((one) => !one.online).map(({ id }) => id));
        break;
      case 7: {
        if (resource === null || resource.pool.resources.length === 1 || scheduling.pools.length > 2) break;
        const { cpus } = resource;
        pools.remove(resource.pool, cpus);
        pools.create({ name: `pool-${++this.#made}`, scheduler: "any", cpus });
        break;
      }
      case 8:
        pools.move(domain, pool);
        break;
      case 9: {
        if (pool.id === 0) break;
        for (const one of new Set([...pool.units].map((unit) => unit.domain))) pools.move(one, scheduling.pools[0]!);
        const cpus = pool.pcpus.map(({ id }) => id);
        pools.destroy(pool);
        pools.offline(cpus);
        break;
      }
      case 10:
        scheduling.setAffinity(vcpu, some(), some());
        break;
      case 11:
        if (this.#domains.length < 6) this.#create();
        else this.#destroy(domain);
        break;
      case 12: {
        const state = JSON.parse(JSON.stringify(pool.save()));
        scheduling.replaceScheduler(pool, this.#provider, r(2) === 0 ? state : null);
        break;
      }
      default:
        if (vcpu.unit === null) break;
        scheduling.setFlag(vcpu, PauseFlag.down);
        machine.timers.arm(machine.now + r(5 * MS), () => {
          if (vcpu.unit !== null) scheduling.clearFlag(vcpu, PauseFlag.down);
        });
    }
  }

  // ---- what must hold --------------------------------------------------------------------------

  #check(): void {
    for (const pcpu of this.machine.pcpus) {
      const { id, clock, current, resource } = pcpu;
      if (clock < this.#clocks[id]!) this.#wrong(`the clock of pCPU ${id} went back to ${clock}`);
      this.#clocks[id] = clock;
      if (pcpu.announced !== current) this.#wrong(`${current} is on pCPU ${id}, ${pcpu.announced} was announced`);
      if (!pcpu.online && resource !== null) this.#wrong(`pCPU ${id} is offline and in a pool`);
      if (current === null) continue;
      if (current.runningOn !== pcpu) this.#wrong(`${current} is on pCPU ${id} and runs on ${current.runningOn?.id}`);
      if (resource === null || current.unit?.runningOn !== resource || resource.currentUnit !== current.unit)
        this.#wrong(`${current} is on pCPU ${id}, its unit on ${current.unit?.runningOn}`);
    }
    for (const domain of this.#domains) for (const vcpu of domain.vcpus) this.#checkVcpu(vcpu);
    for (const pool of this.#scheduling.pools) {
      const [fault] = pool.faults;
      if (fault !== undefined) this.#wrong(`ejected: ${fault.reason}\n${fault.dump}`);
      let runnable = 0;
      for (const unit of pool.units) for (const vcpu of unit.vcpus) if (vcpu.unit === unit && vcpu.runnable) runnable++;
      if (pool.runnable !== runnable)
        this.#wrong(`pool ${pool.name} counts ${pool.runnable}, not ${runnable}, runnable`);
    }
  }

  #checkVcpu(vcpu: Vcpu): void {
    const { runState, runningOn, unit } = vcpu;
    if ((runState === RunState.running) !== (runningOn?.current === vcpu))
      this.#wrong(`${vcpu} has runstate ${runState} and is ${runningOn?.current === vcpu ? "" : "not "}on a pCPU`);
    if (runState !== RunState.running && (runState === RunState.runnable) !== vcpu.runnable)
      this.#wrong(`${vcpu} has runstate ${runState} and is ${vcpu.runnable ? "" : "not "}runnable`);
    if (unit instanceof Unit && (unit.awake !== unit.runnable || unit.suspended))
      this.#wrong(`${unit} is ${unit.runnable ? "" : "not "}runnable, and its scheduler was told otherwise`);
    if (!this.#exact) return;
    const { work, exits } = this.#doing.get(vcpu)!;
    const ran = runStateTime(vcpu, RunState.running, runningOn?.clock ?? 0);
    const most = vcpu.domain.arch!.horizon === undefined ? work + EXIT * exits : work;
    if (ran < work || ran > most)
      this.#wrong(`${vcpu} ran for ${ran} ns, and did ${work} instructions, ${exits} exits`);
  }
}

function state(name: string, exitLatency: number) {
  return { name, exitLatency, targetResidency: 0 };
}
