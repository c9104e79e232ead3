/**
 * Cpupools as a toolstack handles them: by name, with every refusal in a sentence and with Xen's errno (common/sched/cpupool.c).
 *
 * Design: Scheduling does the work; this file decides what is allowed. Pool 0 is always there.
 * Invariants: a pool with domains keeps a pCPU; with a coarser granularity pCPUs come and go in whole groups; an offline pCPU is in no pool.
 */
import { ERRNO } from "../abi/errno.ts";
import type { Domain } from "../domain/domain.ts";
import { ConfigError } from "../errors.ts";
import type { Machine } from "../machine/machine.ts";
import type { Pcpu } from "../machine/pcpu.ts";
import type { CpuPool, SchedulerProvider } from "./cpupool.ts";
import type { Granularity, Resource } from "./resource.ts";
import type { Scheduling } from "./scheduling.ts";
import type { Unit } from "./unit.ts";

/** A change of pools that is refused; `errno` is what Xen answers (negative). */
export class PoolError extends ConfigError {
  readonly errno: number;
  constructor(errno: number, message: string) {
    super(message);
    this.errno = -errno;
  }
}

/** What a cpupool is made from. */
export interface PoolConfig {
  readonly name: string;
  readonly scheduler: string;
  /** Numbers of its pCPUs. */
  readonly cpus: readonly number[];
  /** Default: `cpu`. */
  readonly granularity?: Granularity;
}

export class Pools {
  readonly #machine: Machine;
  readonly #scheduling: Scheduling;
  readonly #provider: (name: string) => SchedulerProvider;

  constructor(machine: Machine, scheduling: Scheduling, provider: (name: string) => SchedulerProvider) {
    this.#machine = machine;
    this.#scheduling = scheduling;
    this.#provider = provider;
  }

  /** The pool of a name; PoolError (ENOENT) with the names there are. */
  named(name: string): CpuPool {
    const pool = this.#scheduling.pools.find((p) => p.name === name);
    if (pool === undefined)
      throw new PoolError(
        ERRNO.ENOENT,
        `There is no cpupool '${name}'; there are: ${this.#scheduling.pools.map((p) => p.name).join(", ")}.`,
      );
    return pool;
  }

  #pcpus(cpus: readonly number[]): Pcpu[] {
    const last = this.#machine.pcpus.length - 1;
    return [...new Set(cpus)].map((id) => {
      const pcpu = this.#machine.pcpus[id];
      if (pcpu === undefined)
        throw new PoolError(ERRNO.EINVAL, `There is no pCPU ${id}; the machine has 0 to ${last}.`);
      return pcpu;
    });
  }

  /** Makes a pool of free pCPUs. */
  create(config: PoolConfig): CpuPool {
    return this.#scheduling.createPool(
      config.name,
      this.#pcpus(config.cpus),
      this.#provider(config.scheduler),
      config.granularity ?? "cpu",
    );
  }

  /** Ends a pool without domains; its pCPUs are free then. Pool 0 stays. */
  destroy(pool: CpuPool): void {
    if (pool.id === 0) throw new PoolError(ERRNO.EBUSY, `Cpupool '${pool.name}' is the first one, which stays.`);
    if (pool.units.size > 0)
      throw new PoolError(
        ERRNO.EBUSY,
        `Cpupool '${pool.name}' still has domains (${domainsOf(pool)}); move or destroy them first.`,
      );
    this.#scheduling.removeResources(pool, pool.resources);
    pool.close();
    this.#scheduling.pools.splice(this.#scheduling.pools.indexOf(pool), 1);
  }

  /** Free pCPUs join a pool. */
  add(pool: CpuPool, cpus: readonly number[]): void {
    const pcpus = this.#pcpus(cpus);
    for (const pcpu of pcpus) {
      if (!pcpu.online) throw new PoolError(ERRNO.ENODEV, `pCPU ${pcpu.id} is offline; bring it online first.`);
      const other = pcpu.resource?.pool;
      if (other !== undefined)
        throw new PoolError(
          ERRNO.EBUSY,
          `pCPU ${pcpu.id} is in cpupool '${other.name}'${other === pool ? " already" : "; remove it there first"}.`,
        );
    }
    this.#scheduling.addPcpus(pool, pcpus);
  }

  /** pCPUs leave their pool and are free. */
  remove(pool: CpuPool, cpus: readonly number[]): void {
    this.#scheduling.removeResources(pool, this.#leaving(pool, this.#pcpus(cpus)));
  }

  /** The resources that pCPUs are, if they may leave their pool. */
  #leaving(pool: CpuPool, pcpus: readonly Pcpu[]): Resource[] {
    const resources = new Set<Resource>();
    for (const pcpu of pcpus) {
      const { resource } = pcpu;
      if (resource === null || resource.pool !== pool)
        throw new PoolError(ERRNO.EINVAL, `pCPU ${pcpu.id} is not in cpupool '${pool.name}'.`);
      if (!resource.pcpus.every((other) => pcpus.includes(other)))
        throw new PoolError(
          ERRNO.EINVAL,
          `Cpupool '${pool.name}' schedules by ${pool.granularity}: pCPUs ${resource.cpus.join(", ")} leave it together; name all of them.`,
        );
      resources.add(resource);
    }
    if (resources.size === pool.resources.length && pool.units.size > 0)
      throw new PoolError(
        ERRNO.EBUSY,
        `pCPU ${pcpus.at(-1)!.id} is the last of cpupool '${pool.name}', which has domains (${domainsOf(pool)}); move them first.`,
      );
    return [...resources];
  }

  /** Moves a domain into another pool, with its scheduler's default parameters. */
  move(domain: Domain, pool: CpuPool): void {
    if (pool.resources.length === 0)
      throw new PoolError(ERRNO.EINVAL, `Cpupool '${pool.name}' has no pCPU; add one first.`);
    if (poolOf(domain) === pool) return;
    this.#scheduling.moveDomain(domain, pool);
  }

  /** Takes pCPUs offline (hotplug), all or none: they leave their pool and run nothing. */
  offline(cpus: readonly number[]): void {
    const pcpus = this.#pcpus(cpus);
    const leaving = this.#scheduling.pools.map((pool) => {
      const here = pcpus.filter((p) => p.resource?.pool === pool);
      return { pool, resources: here.length > 0 ? this.#leaving(pool, here) : [] };
    });
    for (const { pool, resources } of leaving)
      if (resources.length > 0) this.#scheduling.removeResources(pool, resources);
    for (const pcpu of pcpus) pcpu.online = false;
  }

  /** Brings pCPUs online; they join the first pool, as in Xen. */
  online(cpus: readonly number[]): void {
    const pcpus = this.#pcpus(cpus).filter((p) => !p.online);
    if (pcpus.length > 0) this.#scheduling.addPcpus(this.#scheduling.pools[0]!, pcpus);
    for (const pcpu of pcpus) pcpu.online = true;
  }
}

/** The pool that a domain is in; undefined: it has no vCPU. */
export function poolOf(domain: Domain): CpuPool | undefined {
  return (domain.vcpus[0]?.unit as Unit | null | undefined)?.pool;
}

function domainsOf(pool: CpuPool): string {
  return [...new Set([...pool.units].map((unit) => unit.domain.name))].slice(0, 5).join(", ");
}
