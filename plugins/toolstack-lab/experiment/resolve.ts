/**
 * From what a file says to an Experiment: defaults, sets of pCPUs, names that must exist, files that are read.
 *
 * Complaints are WrongAt with the path; the caller adds the place.
 */
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import type { ParamValues } from "hookvisor";
import type { Chosen, ExperimentSource } from "./load.ts";
import type {
  DomainImageSource,
  Experiment,
  ExperimentChange,
  ExperimentDomain,
  ExperimentMachine,
  ExperimentPool,
  ScriptStep,
} from "./model.ts";
import { complaint, type Path, type Places, WrongAt } from "./places.ts";
import { checkShape, type DomainFile, type ExperimentFile } from "./schema.ts";
import { formatCpuSet, formatTime, parseCpuSet, showValue } from "./values.ts";

/** What an image of the toolstack's says, by keys of xl.cfg. */
export type ImageSettings = Readonly<Record<string, unknown>>;

/** What there is: of plugins, and of images. */
export interface ResolveContext {
  readonly schedulers: readonly string[];
  readonly governors: readonly string[];
  readonly types: readonly string[];
  /** Names of images. */
  readonly images: readonly string[];
  image(name: string): Promise<ImageSettings>;
  /** Something that can be, and hardly is what was meant. */
  note?(text: string): void;
  /** Replaces the scheduler of every pool. */
  readonly scheduler?: string;
}

/** Type of a domain with a workload. */
const WORKLOAD = "workload";
/** Memory of a domain that says none, MiB. */
const MEMORY = { workload: 1, guest: 128 };
/** What the machine has beyond its guests' memory, MiB. */
const SPARE_MEMORY = 64;

/** What a domain runs, with the vCPUs that it has unless the file says otherwise. */
type Guest = Pick<ExperimentDomain, "type" | "image" | "extra" | "memoryMiB" | "devices" | "script" | "vcpus">;

/** Resolves a source with the chosen parameters. ConfigError with the place. */
export async function resolveExperiment(
  source: ExperimentSource,
  chosen: Chosen,
  context: ResolveContext,
): Promise<Experiment> {
  try {
    const raw = source.make(chosen);
    return await new Resolver(source, raw, checkShape(raw), context).resolve(chosen);
  } catch (error) {
    if (error instanceof WrongAt) {
      const unknown = error.message.startsWith("there is no key");
      throw complaint(source.places, error.path, error.message, error, unknown);
    }
    throw error;
  }
}

class Resolver {
  readonly #file: ExperimentFile;
  readonly #places: Places;
  readonly #folder: string;
  readonly #source: ExperimentSource;
  readonly #context: ResolveContext;

  readonly #raw: unknown;

  constructor(source: ExperimentSource, raw: unknown, file: ExperimentFile, context: ResolveContext) {
    this.#raw = raw;
    this.#source = source;
    this.#file = file;
    this.#places = source.places;
    this.#folder = dirname(resolve(source.file));
    this.#context = context;
  }

  async resolve(chosen: Chosen): Promise<Experiment> {
    const file = this.#file;
    if (file.duration === 0) throw new WrongAt(["duration"], "'duration' must be above 0");
    if (file.warmUp >= file.duration) throw new WrongAt(["warmUp"], "'warmUp' must be shorter than 'duration'");
    const repeated = file.seeds.findIndex((seed, i) => file.seeds.indexOf(seed) !== i);
    if (repeated >= 0) throw new WrongAt(["seeds", repeated], `seed ${file.seeds[repeated]} is given twice`);
    const machine = this.#machine();
    const pools = this.#pools(machine);
    const domains: ExperimentDomain[] = [];
    for (const [i, domain] of file.domains.entries()) domains.push(...(await this.#domain(domain, i, machine, pools)));
    const seen = new Map<string, number>();
    for (const { name, entry } of domains) {
      const other = seen.get(name);
      if (other !== undefined)
        throw new WrongAt(["domains", entry, "name"], `there are two domains '${name}'; give one another name`);
      seen.set(name, entry);
    }
    const memory = domains.reduce((sum, domain) => sum + domain.memoryMiB, 0) + SPARE_MEMORY;
    const memoryMiB = file.machine.memory ?? memory;
    if (memoryMiB > 4096)
      throw new WrongAt(["domains"], `the domains want ${memory} MiB together, and a machine has 4096 at most`);
    return {
      name: file.name ?? basename(this.#source.file).replace(/\.[^.]*$/, ""),
      duration: file.duration,
      warmUp: file.warmUp,
      seeds: file.seeds,
      machine: { ...machine, memoryMiB },
      pools,
      domains,
      entitlement: this.#entitlement(domains),
      changes: this.#changes(machine, pools, domains),
      faults: {
        lateDispatch: file.faults.lateDispatch ?? null,
        loseTimers: file.faults.loseTimers,
        coalesceTimers: file.faults.coalesceTimers,
      },
      parameters: chosen,
    };
  }

  #machine(): Omit<ExperimentMachine, "memoryMiB"> {
    const { governor, coresPerSocket: cores, memory: _memory, ...rest } = this.#file.machine;
    const { pcpus, threadsPerCore, socketsPerNode, quantum } = rest;
    const wrong = (key: string, message: string): never => {
      throw new WrongAt(["machine", key], message);
    };
    if (pcpus % threadsPerCore !== 0)
      wrong(
        "threadsPerCore",
        `${pcpus} pCPU${pcpus === 1 ? "" : "s"} cannot be put into cores of ${threadsPerCore} threads without a rest`,
      );
    const all = pcpus / threadsPerCore;
    const coresPerSocket = cores ?? all;
    if (all % coresPerSocket !== 0)
      wrong(
        "coresPerSocket",
        `${pcpus} pCPU${pcpus === 1 ? "" : "s"} with ${threadsPerCore} a core ${all === 1 ? "is 1 core, and this does" : `are ${all} cores, and these do`} not fill sockets of ${coresPerSocket}`,
      );
    const sockets = all / coresPerSocket;
    if (sockets % socketsPerNode !== 0 && socketsPerNode !== 1)
      wrong(
        "socketsPerNode",
        `${sockets} socket${sockets === 1 ? " does" : "s do"} not fill NUMA nodes of ${socketsPerNode}`,
      );
    if (quantum < 1) wrong("quantum", "'quantum' must be above 0");
    const falls = rest.frequencies.findIndex((mhz, i) => i > 0 && mhz <= rest.frequencies[i - 1]!);
    if (falls > 0) throw new WrongAt(["machine", "frequencies", falls], "'frequencies' must rise");
    const named = rest.idleStates.findIndex(
      ({ name }, i) => rest.idleStates.findIndex((one) => one.name === name) !== i,
    );
    if (named > 0)
      throw new WrongAt(
        ["machine", "idleStates", named, "name"],
        `there are two idle states '${rest.idleStates[named]!.name}'`,
      );
    const given = this.#given;
    const note = (key: string, text: string): void =>
      this.#context.note?.(`${this.#places.at(["machine", key])}: ${text}`);
    for (const [i, { name, exitLatency }] of rest.idleStates.entries())
      if (given("idleStates", i, "targetResidency") === undefined && exitLatency > 0)
        note(
          "idleStates",
          `idle state '${name}' has no targetResidency, so that a governor takes it for worth any idle time`,
        );
    const highest = rest.frequencies.at(-1);
    if (given("mhz") !== undefined && highest !== undefined && !rest.frequencies.includes(rest.mhz))
      note("mhz", `${rest.mhz} MHz is none of the frequencies, which rule: pCPUs start at ${highest} MHz`);
    if (governor !== undefined && rest.frequencies.length + rest.idleStates.length === 0)
      note("governor", `governor '${governor}' has nothing to choose from; give frequencies or idleStates`);
    if (governor !== undefined) this.#known("governor", governor, this.#context.governors, ["machine", "governor"]);
    return { ...rest, coresPerSocket, governor: governor ?? null };
  }

  /** What the file itself says of the machine, before defaults. */
  readonly #given = (...path: readonly (string | number)[]): unknown =>
    ["machine", ...path].reduce<unknown>(
      (value, key) => (value as Readonly<Record<string | number, unknown>> | null | undefined)?.[key],
      this.#raw,
    );

  #known(what: string, name: string, names: readonly string[], path: Path): void {
    if (names.includes(name)) return;
    throw new WrongAt(
      path,
      `no plugin provides ${what} '${name}'; ${names.length === 0 ? "there is none" : `there are ${names.join(", ")}`}`,
    );
  }

  #pools(machine: Omit<ExperimentMachine, "memoryMiB">): readonly ExperimentPool[] {
    const { pools, scheduler, params } = this.#file;
    const { schedulers, scheduler: forced } = this.#context;
    if (pools === undefined) {
      const name = forced ?? scheduler ?? "credit";
      this.#known("scheduler", name, schedulers, scheduler === undefined || forced !== undefined ? [] : ["scheduler"]);
      const cpus = Array.from({ length: machine.pcpus }, (_, id) => id);
      return [
        {
          name: "Pool-0",
          scheduler: name,
          cpus,
          granularity: "cpu",
          params: (params ?? {}) as ParamValues,
          replaced: name !== (scheduler ?? "credit"),
          entry: null,
        },
      ];
    }
    if (scheduler !== undefined)
      throw new WrongAt(["scheduler"], "'scheduler' and 'pools' are both given; a pool says its own scheduler");
    if (params !== undefined) throw new WrongAt(["params"], "'params' and 'pools' are both given; a pool has its own");
    const owner = new Map<number, string>();
    return pools.map((pool, i) => {
      const path = ["pools", i];
      const name = forced ?? pool.scheduler;
      this.#known("scheduler", name, schedulers, [...path, "scheduler"]);
      if (pools.findIndex((other) => other.name === pool.name) !== i)
        throw new WrongAt([...path, "name"], `there are two pools '${pool.name}'`);
      const cpus = this.#cpus(pool.cpus, machine.pcpus, [...path, "cpus"]);
      for (const cpu of cpus) {
        const other = owner.get(cpu);
        if (other !== undefined) throw new WrongAt([...path, "cpus"], `pCPU ${cpu} is in pool '${other}' already`);
        owner.set(cpu, pool.name);
      }
      return {
        name: pool.name,
        scheduler: name,
        cpus,
        granularity: pool.granularity,
        params: pool.params as ParamValues,
        replaced: name !== pool.scheduler,
        entry: i,
      };
    });
  }

  #cpus(value: unknown, count: number, path: Path): readonly number[] {
    const cpus = parseCpuSet(value, count);
    const backwards = [value].flat().flatMap((one) => {
      const ranges = typeof one === "string" ? one.matchAll(/(\d+)-(\d+)/g) : [];
      return [...ranges].filter(([, from, to]) => Number(from) > Number(to));
    })[0];
    if (cpus === null && backwards !== undefined) {
      const [range, from, to] = backwards;
      throw new WrongAt(path, `the range ${range} is backwards; perhaps ${to}-${from} is meant`);
    }
    if (cpus === null) throw new WrongAt(path, `expected pCPUs such as "0-3,5,^2", got ${showValue(value)}`);
    if (cpus.length === 0) throw new WrongAt(path, "there must be at least one pCPU");
    const last = cpus.at(-1)!;
    if (last >= count) throw new WrongAt(path, `there is no pCPU ${last}; the machine has ${upTo(count)}`);
    return cpus;
  }

  async #domain(
    domain: DomainFile,
    entry: number,
    machine: Omit<ExperimentMachine, "memoryMiB">,
    pools: readonly ExperimentPool[],
  ): Promise<readonly ExperimentDomain[]> {
    const path = ["domains", entry];
    const pool = domain.pool === undefined ? pools[0]! : this.#pool(domain.pool, pools, [...path, "pool"]);
    const set = (key: "cpus" | "softCpus"): readonly number[] | null => {
      const value = domain[key];
      if (value === undefined) return null;
      const cpus = this.#cpus(value, machine.pcpus, [...path, key]);
      if (key === "cpus" && !cpus.some((cpu) => pool.cpus.includes(cpu)))
        throw new WrongAt(
          [...path, key],
          `none of the pCPUs ${formatCpuSet(cpus)} is in pool '${pool.name}', which has ${formatCpuSet(pool.cpus)}`,
        );
      return cpus;
    };
    const cpus = set("cpus");
    const softCpus = set("softCpus");
    const guest = await this.#guest(domain, path);
    const vcpus = domain.vcpus ?? guest.vcpus;
    if (domain.vcpuScheduler.length > vcpus)
      throw new WrongAt(
        [...path, "vcpuScheduler"],
        `'vcpuScheduler' has ${domain.vcpuScheduler.length} items, and the domain has ${vcpus} vCPU${vcpus === 1 ? "" : "s"}`,
      );
    const { vcpus: _vcpus, ...rest } = guest;
    return Array.from({ length: domain.count }, (_, i) => ({
      ...rest,
      name: domain.count === 1 ? domain.name : `${domain.name}-${i + 1}`,
      group: domain.name,
      entry,
      vcpus,
      pool: pool.name,
      cpus,
      softCpus,
      scheduler: domain.scheduler as ParamValues,
      vcpuScheduler: domain.vcpuScheduler as readonly ParamValues[],
    }));
  }

  #pool(name: string, pools: readonly ExperimentPool[], path: Path): ExperimentPool {
    const pool = pools.find((one) => one.name === name);
    if (pool !== undefined) return pool;
    throw new WrongAt(path, `there is no pool '${name}'; there ${are(pools.map((one) => one.name))}`);
  }

  /** What it runs. */
  async #guest(domain: DomainFile, path: Path): Promise<Guest> {
    const given = (["workload", "image", "kernel"] as const).filter((key) => domain[key] !== undefined);
    if (given.length === 0)
      throw new WrongAt(path, "a domain needs something to run: give 'workload', 'image' or 'kernel'");
    if (given.length > 1)
      throw new WrongAt([...path, given[1]!], `'${given[0]}' and '${given[1]}' are both given; give one`);
    if (domain.workload !== undefined) {
      this.#known("guest type", WORKLOAD, this.#context.types, [...path, "workload"]);
      for (const key of ["ramdisk", "extra", "type", "input"] as const)
        if (domain[key] !== undefined) throw new WrongAt([...path, key], `'${key}' is for real guests, not workloads`);
      const list = Array.isArray(domain.workload)
        ? domain.workload
        : typeof domain.workload === "object"
          ? domain.workload["vcpus"]
          : null;
      const vcpus = Array.isArray(list) ? Math.max(1, list.length) : 1;
      return {
        type: WORKLOAD,
        image: this.#workload(domain.workload, [...path, "workload"]),
        extra: "",
        memoryMiB: domain.memory ?? MEMORY.workload,
        devices: domain.devices,
        script: [],
        vcpus,
      };
    }
    return this.#realGuest(domain, path);
  }

  /** Inline or a file, as arch/workload reads it. */
  #workload(workload: NonNullable<DomainFile["workload"]>, path: Path): DomainImageSource {
    if (typeof workload === "string") {
      const text = this.#read(resolve(this.#folder, workload), workload, path).toString("utf8");
      return { kind: "workload", text, name: workload, inline: false, seeded: hasSeed(text) };
    }
    const text = JSON.stringify(Array.isArray(workload) ? workload.map(named) : named(workload));
    return { kind: "workload", text, name: this.#places.at(path), inline: true, seeded: hasSeed(text) };
  }

  #read(file: string, shown: string, path: Path): Buffer {
    try {
      if (statSync(file).isDirectory()) throw new WrongAt(path, `${shown} is a folder, and a file is wanted`);
      return readFileSync(file);
    } catch (error) {
      if (error instanceof WrongAt) throw error;
      const { code } = error as NodeJS.ErrnoException;
      throw new WrongAt(
        path,
        code === "ENOENT" ? `there is no file ${shown}` : `${shown} cannot be read (${code ?? String(error)})`,
      );
    }
  }

  async #realGuest(domain: DomainFile, path: Path): Promise<Guest> {
    const settings: ImageSettings = domain.image === undefined ? {} : await this.#image(domain.image, path);
    const folder = domain.image === undefined ? this.#folder : ".";
    const text = (key: "kernel" | "ramdisk" | "extra" | "type"): string | undefined =>
      domain[key] ?? (typeof settings[key] === "string" ? settings[key] : undefined);
    const number = (key: "memory" | "vcpus"): number | undefined =>
      domain[key] ?? (typeof settings[key] === "number" ? settings[key] : undefined);
    const files = (["kernel", "ramdisk"] as const).map((key) => {
      const value = text(key);
      if (value === undefined) return null;
      const file = resolve(domain[key] === undefined ? folder : this.#folder, value);
      const bytes = this.#read(file, value, [...path, domain[key] === undefined ? "image" : key]);
      return { file, sha256: createHash("sha256").update(bytes).digest("hex") };
    });
    const [kernel, ramdisk] = files;
    if (kernel === null || kernel === undefined) throw new WrongAt([...path, "image"], "the image has no kernel");
    const type = text("type") ?? "pv";
    this.#known("guest type", type, this.#context.types, domain.type === undefined ? path : [...path, "type"]);
    const extra = [typeof settings["extra"] === "string" ? settings["extra"] : null, domain.extra ?? null];
    const ofImage = (["vif", "disk"] as const).flatMap((key) => {
      const device = key === "disk" ? "vbd" : key;
      const specs = settings[key];
      if (!Array.isArray(specs) || domain.devices.some((one) => one.type === device)) return [];
      return specs.map((spec) => ({ type: device, spec: String(spec) }));
    });
    return {
      type,
      image: {
        kind: "files",
        kernel: kernel.file,
        kernelSha256: kernel.sha256,
        ramdisk: ramdisk?.file ?? null,
        ramdiskSha256: ramdisk?.sha256 ?? null,
      },
      extra: extra.filter((part) => part !== null).join(" "),
      memoryMiB: number("memory") ?? MEMORY.guest,
      devices: [{ type: "console", spec: "" }, ...ofImage, ...domain.devices],
      script: this.#script(domain.input, [...path, "input"]),
      vcpus: number("vcpus") ?? 1,
    };
  }

  async #image(name: string, path: Path): Promise<ImageSettings> {
    if (!this.#context.images.includes(name))
      throw new WrongAt([...path, "image"], `there is no image '${name}'; there ${are(this.#context.images)}`);
    return this.#context.image(name);
  }

  /** `expect TEXT` and `send TEXT` lines, or a list. \n \r \t \\ and \xHH are escapes in a file's lines. */
  #script(input: DomainFile["input"], path: Path): readonly ScriptStep[] {
    if (input === undefined) return [];
    if (typeof input !== "string") return input;
    const text = this.#read(resolve(this.#folder, input), input, path).toString("utf8");
    const steps: ScriptStep[] = [];
    for (const [i, raw] of text.split(/\r?\n/).entries()) {
      const line = raw.trim();
      if (line === "" || line.startsWith("#")) continue;
      const match = /^(expect|send)\s+(.+)$/.exec(line);
      if (match === null)
        throw new WrongAt(path, `${input}:${i + 1}: expected 'expect TEXT' or 'send TEXT', got '${line.slice(0, 30)}'`);
      const said = match[2]!.replace(/\\(x[0-9a-fA-F]{2}|[nrt\\])/g, (_all, code: string) =>
        code.length === 3
          ? String.fromCharCode(Number.parseInt(code.slice(1), 16))
          : ({ n: "\n", r: "\r", t: "\t", "\\": "\\" }[code] ?? code),
      );
      steps.push(match[1] === "expect" ? { expect: said } : { send: said });
    }
    return steps;
  }

  #entitlement(domains: readonly ExperimentDomain[]): Readonly<Record<string, number>> | null {
    const { entitlement } = this.#file;
    if (entitlement === undefined) return null;
    for (const name of Object.keys(entitlement)) this.#someDomain(name, domains, ["entitlement", name]);
    return entitlement;
  }

  #someDomain(name: string, domains: readonly ExperimentDomain[], path: Path): void {
    if (domains.some((one) => one.name === name || one.group === name)) return;
    throw new WrongAt(
      path,
      `there is no domain '${name}'; there ${are([...new Set(domains.map((one) => one.group))])}`,
    );
  }

  #changes(
    machine: Omit<ExperimentMachine, "memoryMiB">,
    pools: readonly ExperimentPool[],
    domains: readonly ExperimentDomain[],
  ): readonly ExperimentChange[] {
    const known: Known = { machine, pools, domains };
    const changes = this.#file.changes.map((change, entry) => this.#change(change, entry, known));
    const sorted = changes.sort((a, b) => a.at - b.at || a.entry - b.entry);
    this.#noteHotplug(sorted, machine.pcpus);
    return sorted;
  }

  /** Hotplug that changes nothing. */
  #noteHotplug(changes: readonly ExperimentChange[], pcpus: number): void {
    const online = new Set(Array.from({ length: pcpus }, (_, id) => id));
    for (const change of changes) {
      if (change.kind !== "online" && change.kind !== "offline") continue;
      const { kind, pcpu, entry, at } = change;
      if (online.has(pcpu) === (kind === "online"))
        this.#context.note?.(
          `${this.#places.at(["changes", entry])}: pCPU ${pcpu} is ${kind} already at ${formatTime(at)}, so nothing changes`,
        );
      if (kind === "online") online.add(pcpu);
      else online.delete(pcpu);
    }
  }

  #change(change: ExperimentFile["changes"][number], entry: number, known: Known): ExperimentChange {
    const { machine, pools, domains } = known;
    const path = ["changes", entry];
    const kinds = (["offline", "online", "params", "move", "pause", "unpause"] as const).filter(
      (key) => change[key] !== undefined,
    );
    const at = { at: change.at, entry };
    const pcpu = (id: number, key: string): number => {
      if (id < machine.pcpus) return id;
      throw new WrongAt([...path, key], `there is no pCPU ${id}; the machine has ${upTo(machine.pcpus)}`);
    };
    switch (kinds.length === 1 ? kinds[0]! : null) {
      case "offline":
        return { ...at, kind: "offline", pcpu: pcpu(change.offline!, "offline") };
      case "online":
        return { ...at, kind: "online", pcpu: pcpu(change.online!, "online") };
      case "pause":
        this.#someDomain(change.pause!, domains, [...path, "pause"]);
        return { ...at, kind: "pause", domain: change.pause! };
      case "unpause":
        this.#someDomain(change.unpause!, domains, [...path, "unpause"]);
        return { ...at, kind: "unpause", domain: change.unpause! };
      case "move": {
        const { domain, pcpu: id, pool } = change.move!;
        this.#pool(pool, pools, [...path, "move", "pool"]);
        if ((domain === undefined) === (id === undefined))
          throw new WrongAt([...path, "move"], "give either 'domain' or 'pcpu'");
        if (id !== undefined) return { ...at, kind: "movePcpu", pcpu: pcpu(id, "move"), pool };
        this.#someDomain(domain!, domains, [...path, "move", "domain"]);
        return { ...at, kind: "moveDomain", domain: domain!, pool };
      }
      case "params": {
        const { domain, pool, ...values } = change.params!;
        if ((domain === undefined) === (pool === undefined))
          throw new WrongAt([...path, "params"], "give either 'domain' or 'pool', and the parameters");
        if (pool !== undefined) {
          this.#pool(String(pool), pools, [...path, "params", "pool"]);
          return { ...at, kind: "poolParams", pool: String(pool), values: values as ParamValues };
        }
        this.#someDomain(String(domain), domains, [...path, "params", "domain"]);
        return { ...at, kind: "domainParams", domain: String(domain), values: values as ParamValues };
      }
      default:
        throw new WrongAt(
          path,
          "a change is one of offline, online, params, move, pause, unpause; give one of them beside 'at'",
        );
    }
  }
}

/** What a change can name. */
interface Known {
  readonly machine: Omit<ExperimentMachine, "memoryMiB">;
  readonly pools: readonly ExperimentPool[];
  readonly domains: readonly ExperimentDomain[];
}

/** Does a workload have a seed of its own? A file that is no JSON has none; arch/workload says what is wrong with it. */
function hasSeed(text: string): boolean {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === "object" && value !== null && Object.hasOwn(value, "seed");
  } catch {
    return false;
  }
}

/** `type` is another name for the key `behaviour` of arch/workload's images. */
function named(workload: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  if (!Object.hasOwn(workload, "type") || ["behaviour", "vcpus", "tasks"].some((key) => Object.hasOwn(workload, key)))
    return workload;
  const { type, ...rest } = workload;
  return { behaviour: type, ...rest };
}

function upTo(pcpus: number): string {
  return pcpus === 1 ? "pCPU 0 only" : `0 to ${pcpus - 1}`;
}

function are(names: readonly string[]): string {
  return names.length === 0 ? "is none" : names.length === 1 ? `is ${names[0]}` : `are ${names.join(", ")}`;
}
