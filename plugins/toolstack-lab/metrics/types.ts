/**
 * What is measured in a run. Times are ns; what happens before the end of the warm-up is left out.
 *
 * A figure that a run cannot have (no job had a deadline, nobody ever woke up) is null, never 0.
 */

/** How a set of durations is spread; percentiles by the nearest rank. */
export interface Spread {
  readonly count: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** Jobs of the workload that ended after the warm-up. */
export interface JobMetrics {
  readonly jobs: number;
  /** Jobs that had a deadline. */
  readonly withDeadline: number;
  readonly misses: number;
  /** How late the late ones were; null: none was. */
  readonly tardiness: Spread | null;
  /** From release to end. */
  readonly response: Spread | null;
}

/** Changes of pCPU, by how far apart the two are: the nearest of them that holds. */
export interface Migrations {
  /** To another thread of the same core. */
  readonly thread: number;
  /** To another core of the socket. */
  readonly core: number;
  /** To another socket of the NUMA node. */
  readonly socket: number;
  /** To another NUMA node. */
  readonly node: number;
}

/** One domain. */
export interface DomainMetrics {
  readonly name: string;
  readonly group: string;
  /** CPU time that it got. */
  readonly cpu: number;
  /** CPU time that it was entitled to (entitlement.ts). */
  readonly entitled: number;
  /** Both as parts of the sum over all domains, 0 to 1. */
  readonly share: number;
  readonly entitledShare: number;
  /** Largest amount of CPU time that it was behind (positive) or ahead of what it was entitled to. */
  readonly lagBehind: number;
  readonly lagAhead: number;
  /** From becoming runnable to running, after having been blocked; null: never happened. */
  readonly wake: Spread | null;
  /** From losing its pCPU while it could go on, to running again. */
  readonly preemption: Spread | null;
  readonly jobs: JobMetrics | null;
  readonly switches: number;
  readonly migrations: Migrations;
  /** J, by the model of energy.ts. */
  readonly energy: number;
}

/** Share error over windows of one length: per window the largest |share - entitled share| of any domain. */
export interface WindowError {
  /** ns; null: the whole time measured, one window. */
  readonly window: number | null;
  readonly windows: number;
  readonly mean: number;
  readonly max: number;
}

/** A run. */
export interface RunMetrics {
  /** Time measured: from the end of the warm-up to the end. */
  readonly time: number;
  readonly domains: readonly DomainMetrics[];
  readonly shareErrors: readonly WindowError[];
  /** Jain's index of share / entitled share: 1 is fair, 1/n is one domain having it all; null: nothing ran. */
  readonly jain: number | null;
  /** Largest of the domains' lags, either way. */
  readonly lag: number;
  readonly wake: Spread | null;
  readonly preemption: Spread | null;
  readonly jobs: JobMetrics | null;
  /** vCPUs put on pCPUs. */
  readonly switches: number;
  readonly migrations: Migrations;
  /** pCPU time spent running vCPUs, and what the pCPUs of pools had to give. */
  readonly busy: number;
  readonly capacity: number;
  /** pCPU time idled while a vCPU that might have run there waited. */
  readonly idleWhileWaiting: number;
  /** J, by the model of energy.ts. */
  readonly energy: number;
  /** Plugins that were ejected. */
  readonly faults: number;
}
