/**
 * The scheduling resource: what a scheduler sees as a pCPU. One pCPU or, with granularity `core` or `socket`, several that switch together.
 *
 * Invariants: when its scheduler is asked, all its pCPUs stand at the same time (they rendezvous); between two decisions each of them
 * runs its vCPU of the present unit or idles; a pCPU belongs to one resource at most.
 */
import type { Pcpu } from "../machine/pcpu.ts";
import type { Nanoseconds } from "../machine/timers.ts";
import type { CpuPool } from "./cpupool.ts";
import type { SchedulerPcpu } from "./scheduler.ts";
import type { Unit } from "./unit.ts";

export class Resource implements SchedulerPcpu {
  readonly id: number;
  readonly cpus: readonly number[];
  readonly socket: number;
  readonly core: number;
  readonly node: number;
  readonly pcpus: readonly Pcpu[];
  readonly pool: CpuPool;
  currentUnit: Unit | null = null;
  /** When the present unit came. */
  unitSince: Nanoseconds = 0;
  /** doSchedule is due at `dueAt`, before the slice ends. */
  needSchedule = false;
  dueAt: Nanoseconds = 0;
  /** When doSchedule is due at the latest. */
  sliceEnd: Nanoseconds = Infinity;
  /** Somebody else's pCPU asked for it (what a tickle costs). */
  tickled = false;

  constructor(pool: CpuPool, pcpus: readonly Pcpu[]) {
    const first = pcpus[0]!;
    this.id = first.id;
    this.cpus = pcpus.map((p) => p.id);
    this.socket = first.socket;
    this.core = first.core;
    this.node = first.node;
    this.pcpus = pcpus;
    this.pool = pool;
  }

  /** The furthest time of its pCPUs. */
  get time(): Nanoseconds {
    const { pcpus } = this;
    let time = pcpus[0]!.time;
    for (let i = 1; i < pcpus.length; i++) time = Math.max(time, pcpus[i]!.time);
    return time;
  }

  /** When doSchedule is due. */
  get due(): Nanoseconds {
    return this.needSchedule ? this.dueAt : this.sliceEnd;
  }

  toString(): string {
    return this.cpus.length === 1 ? `pCPU ${this.id}` : `pCPUs ${this.cpus.join(",")}`;
  }
}

/** How many pCPUs are scheduled together (Xen: sched-gran). */
export type Granularity = "cpu" | "core" | "socket";

/** The groups of pCPUs that are scheduled together, each by rising number, the groups by their lowest. */
export function groups(pcpus: readonly Pcpu[], granularity: Granularity): Pcpu[][] {
  const found = new Map<number, Pcpu[]>();
  for (const pcpu of [...pcpus].sort((a, b) => a.id - b.id)) {
    const key = granularity === "cpu" ? pcpu.id : granularity === "core" ? pcpu.core : pcpu.socket;
    const group = found.get(key);
    if (group === undefined) found.set(key, [pcpu]);
    else group.push(pcpu);
  }
  return [...found.values()];
}
