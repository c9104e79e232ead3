/**
 * One run: an experiment with a seed, on a hypervisor of its own with the given plugins, recorded from virtual zero to the experiment's end.
 *
 * Changes in the middle are made between two steps of the machine, at their time exactly. Invariants: equal experiments with equal seeds and plugins
 * give equal recordings, whatever the host does; nothing of one run is left for the next; what the experiment has wrong is a WrongAt with its path.
 */
import { readFileSync } from "node:fs";
import {
  ConfigError,
  type CpuPool,
  type Domain,
  type DomainConfig,
  HookvisorError,
  Hypervisor,
  ImageError,
  type LoadedPlugin,
  xen,
} from "hookvisor";
import { createGuard } from "../../../core/node/guard.ts";
import { hostPlugin } from "../../../core/node/host-plugin.ts";
import { NodeHost } from "../../../core/node/host-services.ts";
import { isDeb, kernelOfDeb, unpackKernel } from "../../lib-image/index.ts";
import type { Experiment, ExperimentChange, ExperimentDomain } from "../experiment/model.ts";
import { type Path, WrongAt } from "../experiment/places.ts";
import { formatTime } from "../experiment/values.ts";
import { measure } from "../metrics/index.ts";
import type { RunMetrics } from "../metrics/types.ts";
import { Recorder } from "../recorder.ts";
import { EventKind, type Recording } from "../recording.ts";
import { ScriptedConsole } from "./console.ts";
import { anyFaults, injectFaults } from "./faults.ts";
import { onlyKnown, splitValues, toUnits } from "./params.ts";

const NAME = "toolstack-lab";

/** What a run gives. */
export interface RunOutcome {
  readonly recording: Recording;
  readonly metrics: RunMetrics;
  /** What the guests' descriptions have that is ignored, a line each. */
  readonly notes: readonly string[];
}

/** A run was given up. */
export class Aborted extends Error {}

/** Runs it. `plugins`: all but the host process's own. `stopped`: true once nobody wants it any more, and then it throws Aborted. */
export async function runExperiment(
  plugins: readonly LoadedPlugin[],
  experiment: Experiment,
  seed: number,
  stopped: () => boolean = () => false,
): Promise<RunOutcome> {
  const run = new Run(plugins, experiment, seed, stopped);
  try {
    await run.begin();
    const recording = await run.toEnd();
    return { recording, metrics: measure(recording), notes: [...run.notes] };
  } finally {
    await run.close();
  }
}

class Run {
  readonly #experiment: Experiment;
  readonly #seed: number;
  readonly #stopped: () => boolean;
  readonly #hypervisor: Hypervisor;
  readonly #host = new NodeHost();
  readonly #recorder = new Recorder();
  readonly #domains: Domain[] = [];
  readonly #consoles = new Map<string, ScriptedConsole>();
  /** What is ignored of the guests' descriptions. */
  readonly notes = new Set<string>();
  #booted = false;
  #recording = false;
  #guard: ReturnType<typeof createGuard> = (slice) => slice();

  constructor(plugins: readonly LoadedPlugin[], experiment: Experiment, seed: number, stopped: () => boolean) {
    this.#experiment = experiment;
    this.#stopped = stopped;
    this.#seed = seed;
    const others = plugins.filter(({ plugin }) => plugin.name !== "host");
    this.#hypervisor = new Hypervisor({ plugins: [hostPlugin(), ...others], services: this.#host });
  }

  async begin(): Promise<void> {
    const { machine, pools, faults } = this.#experiment;
    const hypervisor = this.#hypervisor;
    const { hooks } = hypervisor;
    if (anyFaults(faults))
      injectFaults(
        hooks,
        pools.map((pool) => pool.scheduler),
        faults,
        this.#seed,
      );
    this.#tap();
    const { governor, mhz, pcpus, threadsPerCore, coresPerSocket, socketsPerNode, costs, quantum } = machine;
    await at(["machine"], () =>
      hypervisor.boot({
        pcpus,
        threadsPerCore,
        coresPerSocket,
        socketsPerNode,
        costs,
        quantum,
        cpuMhz: mhz,
        frequencies: machine.frequencies,
        idleStates: machine.idleStates,
        memoryMiB: machine.memoryMiB,
        seed: this.#seed,
        pools: pools.map(({ name, scheduler, cpus, granularity }) => ({ name, scheduler, cpus, granularity })),
        ...(governor === null ? {} : { governor }),
      }),
    );
    this.#booted = true;
    const log = hypervisor.machine.onLog;
    hypervisor.machine.onLog = (message) => {
      log(message);
      // The line begins with the domain: `d1 (name): FILE: PLACE: ignored, REASON`.
      if (!this.#recording && message.includes(": ignored, ")) this.notes.add(message.slice(message.indexOf(": ") + 2));
    };
    this.#guard = createGuard(hypervisor);
    hypervisor.devices.guard = this.#guard;
    this.#recorder.now = () => hypervisor.machine.now;
    for (const [i, pool] of pools.entries()) {
      const path = pool.entry === null ? ["params"] : ["pools", pool.entry, "params"];
      this.#adjustPool(hypervisor.pools.named(pool.name), pool.params, i, path);
    }
    this.#host.terminals = (domain) => this.#console(domain.name);
    for (const domain of this.#experiment.domains) await this.#create(domain);
    this.#recording = true;
    for (const domain of this.#domains) hypervisor.unpause(domain);
    for (const console of this.#consoles.values()) console.advance();
  }

  #tap(): void {
    const hypervisor = this.#hypervisor;
    const recorder = this.#recorder;
    recorder.tap(hypervisor.hooks);
    hypervisor.hooks.poolChange.tap(NAME, (pcpu, pool, now) => {
      if (this.#recording) recorder.add(EventKind.pcpuPool, now, pcpu.id, -1, this.#poolIndex(pool));
    });
    hypervisor
      .hooksOf("workload")
      ?.job.tap(NAME, (vcpu, { released, deadline, finished }) =>
        recorder.job(vcpu, released, deadline ?? Infinity, finished),
      );
  }

  #poolIndex(pool: CpuPool | null): number {
    return pool === null ? -1 : this.#experiment.pools.findIndex((one) => one.name === pool.name);
  }

  #adjustPool(pool: CpuPool, values: Experiment["pools"][number]["params"], index: number, path: Path): void {
    const { scheduling } = this.#hypervisor;
    const specs = pool.scheduler.params?.pool ?? {};
    const asked = this.#experiment.pools[index]!.replaced ? onlyKnown(values, specs) : values;
    if (Object.keys(asked).length === 0) return;
    const errno = sync(path, () => scheduling.adjust(pool, null, toUnits(asked, specs)));
    if (errno !== 0) throw new WrongAt(path, refusal(this.#experiment.pools[index]!.scheduler, errno));
  }

  #console(name: string): ScriptedConsole {
    let console = this.#consoles.get(name);
    if (console === undefined) {
      const script = this.#experiment.domains.find((one) => one.name === name)?.script ?? [];
      console = new ScriptedConsole(script, (task) => this.#hypervisor.inject(task));
      this.#consoles.set(name, console);
    }
    return console;
  }

  async #create(domain: ExperimentDomain): Promise<void> {
    const hypervisor = this.#hypervisor;
    const { entry } = domain;
    const pool = hypervisor.pools.named(domain.pool);
    const { replaced } = this.#experiment.pools[this.#poolIndex(pool)]!;
    const { domain: schedulerParams, unit, dropped } = splitValues(domain.scheduler, pool.scheduler, replaced);
    const unitSpecs = pool.scheduler.params?.unit ?? {};
    const vcpuSchedulerParams = Array.from({ length: domain.vcpus }, (_, v) => ({
      ...unit,
      ...toUnits(
        replaced ? onlyKnown(domain.vcpuScheduler[v] ?? {}, unitSpecs) : (domain.vcpuScheduler[v] ?? {}),
        unitSpecs,
      ),
    }));
    const config: DomainConfig = {
      name: domain.name,
      type: domain.type,
      ...(await imageOf(domain)),
      extra: domain.image.kind === "workload" && !domain.image.seeded ? `seed=${this.#seed}` : domain.extra,
      memoryMiB: domain.memoryMiB,
      vcpus: domain.vcpus,
      devices: domain.devices,
      schedulerParams,
      pool: domain.pool,
      ...(vcpuSchedulerParams.some((one) => Object.keys(one).length > 0) ? { vcpuSchedulerParams } : {}),
      ...(domain.cpus === null ? {} : { cpus: domain.cpus }),
      ...(domain.softCpus === null ? {} : { softCpus: domain.softCpus }),
      onReboot: "destroy",
    };
    const made = await at(
      ["domains", entry],
      async () => {
        try {
          return await hypervisor.createDomain(config);
        } catch (error) {
          if (!(error instanceof HookvisorError)) throw error;
          if (error instanceof ImageError) throw inWords(error, domain);
          const values = error.message.includes(" of vCPU ") ? vcpuSchedulerParams[0]! : schedulerParams;
          throw new ConfigError(withValues(error.message, values), { cause: error });
        }
      },
      ofDomain(domain),
    );
    if (domain.type !== "workload") made.onConsoleWrite = (bytes) => this.#console(domain.name).write(bytes);
    this.#domains.push(made);
    this.#recorder.addDomain(
      made,
      { group: domain.group, pool: this.#poolIndex(pool), values: { ...dropped, ...readBack(pool, made) } },
      { hard: domain.cpus, soft: domain.softCpus },
    );
  }

  /** Runs to the experiment's end, with its changes on the way. */
  async toEnd(): Promise<Recording> {
    const { changes, duration } = this.#experiment;
    for (const [i, change] of changes.entries()) {
      if (change.at >= duration) break;
      await this.#runTo(change.at);
      const { now } = this.#hypervisor.machine;
      this.#recorder.add(EventKind.change, change.at, -1, -1, i);
      this.#change(change, Math.max(now, change.at));
    }
    await this.#runTo(duration);
    return this.#finish();
  }

  async #runTo(until: number): Promise<void> {
    const hypervisor = this.#hypervisor;
    if (until > hypervisor.machine.now || until === 0)
      await hypervisor.run({ until, guard: this.#guard, done: this.#stopped });
    if (this.#stopped()) throw new Aborted();
    hypervisor.loop.advance(until);
  }

  #change(change: ExperimentChange, now: number): void {
    const { pools, scheduling } = this.#hypervisor;
    const path = ["changes", change.entry];
    switch (change.kind) {
      case "offline":
        sync([...path, "offline"], () => pools.offline([change.pcpu]));
        return;
      case "online":
        sync([...path, "online"], () => pools.online([change.pcpu]));
        return;
      case "movePcpu":
        sync([...path, "move"], () => {
          const pool = this.#hypervisor.machine.pcpus[change.pcpu]?.resource?.pool;
          if (pool !== undefined) pools.remove(pool, [change.pcpu]);
          pools.add(pools.named(change.pool), [change.pcpu]);
        });
        return;
      case "moveDomain":
        for (const index of this.#named(change.domain)) {
          const domain = this.#domains[index]!;
          const pool = pools.named(change.pool);
          sync([...path, "move"], () => pools.move(domain, pool));
          for (const vcpu of domain.vcpus)
            this.#recorder.add(EventKind.vcpuPool, now, -1, this.#recorder.indexOf(vcpu), this.#poolIndex(pool));
          this.#recorder.params(index, readBack(pool, domain), now);
        }
        return;
      case "poolParams": {
        const index = this.#experiment.pools.findIndex((pool) => pool.name === change.pool);
        this.#adjustPool(pools.named(change.pool), change.values, index, [...path, "params"]);
        return;
      }
      case "domainParams":
        for (const index of this.#named(change.domain))
          this.#adjustDomain(index, change.values, [...path, "params"], now);
        return;
      case "pause":
        for (const index of this.#named(change.domain)) scheduling.pauseDomain(this.#domains[index]!);
        return;
      case "unpause":
        for (const index of this.#named(change.domain)) {
          const domain = this.#domains[index]!;
          if (domain.pauseCount > 0) scheduling.unpauseDomain(domain);
        }
    }
  }

  #adjustDomain(index: number, values: ExperimentDomain["scheduler"], path: Path, now: number): void {
    const { scheduling } = this.#hypervisor;
    const domain = this.#domains[index]!;
    const pool = domain.vcpus[0]!.unit === null ? null : this.#poolOf(domain);
    if (pool === null) return;
    const { replaced } = this.#experiment.pools[this.#poolIndex(pool)]!;
    const { domain: own, unit, dropped } = splitValues(values, pool.scheduler, replaced);
    const adjust = (target: Domain | Domain["vcpus"][number], params: typeof own): void => {
      if (Object.keys(params).length === 0) return;
      const errno = sync(path, () => scheduling.adjust(pool, target, params));
      if (errno !== 0) throw new WrongAt(path, refusal(pool.schedulerName, errno));
    };
    adjust(domain, own);
    for (const vcpu of domain.vcpus) adjust(vcpu, unit);
    this.#recorder.params(index, { ...dropped, ...readBack(pool, domain) }, now);
  }

  #poolOf(domain: Domain): CpuPool {
    return this.#hypervisor.scheduling.pools.find((pool) => [...pool.units].some((unit) => unit.domain === domain))!;
  }

  /** Indices of the domains of a name or group. */
  #named(name: string): readonly number[] {
    return this.#experiment.domains.flatMap((one, i) => (one.name === name || one.group === name ? [i] : []));
  }

  #finish(): Recording {
    const { name, warmUp, duration, machine, pools, changes, entitlement, domains } = this.#experiment;
    const poolOfPcpu = (id: number): number => pools.findIndex((pool) => pool.cpus.includes(id));
    const { machine: real } = this.#hypervisor;
    const rate = machine.governor === null ? machine.mhz : (machine.frequencies.at(-1) ?? machine.mhz);
    return this.#recorder.finish(
      {
        name,
        warmUp,
        seed: this.#seed,
        pcpus: real.pcpus.map(({ id, core, socket, node }) => ({
          id,
          core,
          socket,
          node,
          mhz: rate,
          pool: poolOfPcpu(id),
        })),
        pools: pools.map((pool) => ({ name: pool.name, scheduler: pool.scheduler, granularity: pool.granularity })),
        idleStates: machine.idleStates.map((state) => ({ name: state.name, exitLatency: state.exitLatency })),
        changes: changes.map(describeChange),
      },
      duration,
      entitlement === null
        ? null
        : domains.map((one) => entitlement[one.name] ?? shareOfGroup(one, entitlement, domains)),
    );
  }

  /** Ends the machine. Domains that hold nothing of the host's are not destroyed one by one: the machine goes with them. */
  async close(): Promise<void> {
    if (!this.#booted) return;
    if (this.#experiment.domains.some(({ devices }) => devices.length > 0)) await this.#hypervisor.shutdown();
    else await this.#hypervisor.hooks.shutdown.promise();
  }
}

/** A group's share is its domains' together. */
function shareOfGroup(
  domain: ExperimentDomain,
  entitlement: Readonly<Record<string, number>>,
  domains: readonly ExperimentDomain[],
): number {
  const share = entitlement[domain.group];
  return share === undefined ? 0 : share / domains.filter((one) => one.group === domain.group).length;
}

/** Kernel and ramdisk of a domain. */
async function imageOf(domain: ExperimentDomain): Promise<Pick<DomainConfig, "kernel" | "kernelName" | "ramdisk">> {
  const { image } = domain;
  if (image.kind === "workload")
    return { kernel: new TextEncoder().encode(image.text), kernelName: image.name, ramdisk: null };
  const file = readFileSync(image.kernel);
  const kernel = isDeb(file) ? (await kernelOfDeb(image.kernel)).bytes : file;
  return {
    kernel: await unpackKernel(kernel, `Kernel ${image.kernel}`),
    kernelName: image.kernel,
    ramdisk: image.ramdisk === null ? null : readFileSync(image.ramdisk),
  };
}

/** What the scheduler says of a domain's parameters: of its first vCPU where the domain has none. */
function readBack(pool: CpuPool, domain: Domain): ReturnType<CpuPool["read"]> {
  const { params } = pool.scheduler;
  if (params === undefined) return {};
  const own = params.domain === undefined ? {} : pool.read(domain);
  const unit = domain.vcpus[0]?.unit ?? null;
  return params.unit === undefined || unit === null ? own : { ...own, ...pool.read(unit) };
}

function refusal(scheduler: string, errno: number): string {
  return `scheduler '${scheduler}' refuses these parameters (${xen.errnoName(errno)})`;
}

/** Which key of a domain a message of the core's is about. */
function ofDomain({ image }: ExperimentDomain): (error: HookvisorError) => Path {
  return (error) => {
    if (error instanceof ImageError) return [image.kind === "workload" ? "workload" : "kernel"];
    if (error.message.startsWith("Scheduler '"))
      return [
        error.message.includes("unit parameter") || error.message.includes("of vCPU") ? "vcpuScheduler" : "scheduler",
      ];
    return [];
  };
}

/** A refusal by errno, with what was refused. */
function withValues(message: string, values: object): string {
  if (!/refuses the parameters/.test(message)) return message;
  const given = Object.entries(values).map(([name, value]) => `${name}=${typeof value === "object" ? "..." : value}`);
  return `${message.replace(/\.$/, "")}: ${given.join(", ")}; each is within its own bounds, and together they are not allowed.`;
}

/** A complaint of the core's or of a plugin's gets its path. */
async function at<T>(path: Path, work: () => Promise<T>, more: (error: HookvisorError) => Path = () => []): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof HookvisorError) throw new WrongAt([...path, ...more(error)], error.message);
    throw error;
  }
}

/** A workload that was written in the experiment is named by its place, which the complaint has already; keys are an experiment's. */
function inWords(error: ImageError, { image }: ExperimentDomain): ImageError {
  if (image.kind !== "workload") return error;
  const prefix = `Workload ${image.name}`;
  const own = image.inline && error.message.startsWith(prefix);
  const text = own ? `the workload${error.message.slice(prefix.length)}` : error.message;
  return new ImageError(text.replace(/; give it vcpus = (\d+)\.$/, "; give it 'vcpus: $1'."));
}

function sync<T>(path: Path, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof ConfigError) throw new WrongAt(path, error.message);
    throw error;
  }
}

/** A change in words. */
export function describeChange(change: ExperimentChange): string {
  const when = formatTime(change.at);
  const values = (of: object): string =>
    Object.entries(of)
      .map(([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : String(value)}`)
      .join(" ");
  switch (change.kind) {
    case "offline":
    case "online":
      return `${when}: pCPU ${change.pcpu} ${change.kind}`;
    case "pause":
    case "unpause":
      return `${when}: ${change.kind} ${change.domain}`;
    case "moveDomain":
      return `${when}: ${change.domain} moves to ${change.pool}`;
    case "movePcpu":
      return `${when}: pCPU ${change.pcpu} moves to ${change.pool}`;
    case "domainParams":
      return `${when}: ${change.domain} ${values(change.values)}`;
    case "poolParams":
      return `${when}: pool ${change.pool} ${values(change.values)}`;
  }
}
