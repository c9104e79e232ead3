/**
 * Records a run: taps the core's tracing hooks and writes rows into columns that grow by doubling, so that an event leaves no garbage.
 *
 * Invariants: hooks are tapped before boot; a domain is added before it runs; a vCPU that nobody added leaves no trace. Clocks of pCPUs differ by
 * up to the machine's quantum, so rows are put in order of time at the end (equal times stay in order of arrival).
 */
import { relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import type { Domain, Hooks, ParamValues, Vcpu } from "hookvisor";
import { codeRoot } from "../../core/node/resolve.ts";
import {
  EventKind,
  type RecordedDomain,
  type RecordedFault,
  type RecordedParams,
  type RecordedVcpu,
  type Recording,
  type RecordingTables,
} from "./recording.ts";

const NAME = "toolstack-lab";

/** What the recorder is told before the machine boots. */
export type RecordingHead = Pick<
  RecordingTables,
  "name" | "seed" | "warmUp" | "pcpus" | "pools" | "idleStates" | "changes"
>;

export class Recorder {
  #time = new Float64Array(1024);
  #kind = new Uint8Array(1024);
  #pcpu = new Int16Array(1024);
  #vcpu = new Int32Array(1024);
  #extra = new Int32Array(1024);
  #length = 0;
  #jobs = { release: new Float64Array(64), deadline: new Float64Array(64), end: new Float64Array(64), length: 0 };
  readonly #index = new Map<Vcpu, number>();
  /** Row of the vCPU's last start whose pCPU is not known yet; -1: none. */
  #open = new Int32Array(64).fill(-1);
  readonly #domains: RecordedDomain[] = [];
  readonly #vcpus: RecordedVcpu[] = [];
  readonly #params: RecordedParams[] = [];
  readonly #faults: RecordedFault[] = [];
  /** The present time, for what is told without one. */
  now: () => number = () => 0;

  /** Taps what every core has. */
  tap(hooks: Hooks): void {
    hooks.runstate.tap(NAME, (vcpu, from, to, now) => {
      const index = this.#index.get(vcpu);
      if (index === undefined) return;
      const pcpu = from === 0 || to === 0 ? (vcpu.runningOn?.id ?? -1) : -1;
      if (to === 0) this.#open[index] = this.#length;
      else if (from === 0 && this.#open[index]! >= 0) {
        this.#pcpu[this.#open[index]!] = pcpu;
        this.#open[index] = -1;
      }
      this.add(EventKind.runstate, now, pcpu, index, from * 4 + to);
    });
    // Where a vCPU starts to run is known for certain once it is there.
    hooks.contextSwitch.tap(NAME, (pcpu, _previous, next) => {
      if (next === null) return;
      const index = this.#index.get(next);
      if (index === undefined) return;
      const row = this.#open[index]!;
      if (row >= 0) this.#pcpu[row] = pcpu.id;
      this.#open[index] = -1;
    });
    hooks.frequency.tap(NAME, (pcpu, mhz, now) =>
      this.add(EventKind.frequency, now, pcpu.id, -1, Math.round(mhz * 1000)),
    );
    hooks.idleState.tap(NAME, (pcpu, state, now) => this.add(EventKind.idleState, now, pcpu.id, -1, state));
    hooks.pluginFault.intercept({
      name: NAME,
      call: ({ plugin, kind, reason, dump, error }) => {
        const at = this.now();
        const where = placeOf(error);
        this.add(EventKind.fault, at, -1, -1, this.#faults.length);
        this.#faults.push({ plugin, reason, dump, kind, at, ...(where === null ? {} : { where }) });
      },
    });
  }

  /** Adds a row. */
  add(kind: EventKind, time: number, pcpu: number, vcpu: number, extra: number): void {
    if (this.#length === this.#time.length) this.#grow();
    const i = this.#length++;
    this.#time[i] = time;
    this.#kind[i] = kind;
    this.#pcpu[i] = pcpu;
    this.#vcpu[i] = vcpu;
    this.#extra[i] = extra;
  }

  #grow(): void {
    this.#time = doubled(this.#time, Float64Array);
    this.#kind = doubled(this.#kind, Uint8Array);
    this.#pcpu = doubled(this.#pcpu, Int16Array);
    this.#vcpu = doubled(this.#vcpu, Int32Array);
    this.#extra = doubled(this.#extra, Int32Array);
  }

  /** A domain and its vCPUs, before they run. `values`: its scheduler parameters as they read back. */
  addDomain(
    domain: Domain,
    about: { readonly group: string; readonly pool: number; readonly values: ParamValues },
    affinity: { readonly hard: readonly number[] | null; readonly soft: readonly number[] | null },
  ): void {
    const index = this.#domains.length;
    const vcpus = domain.vcpus.map((vcpu) => {
      this.#index.set(vcpu, this.#vcpus.length);
      return this.#vcpus.push({ domain: index, id: vcpu.id, ...affinity }) - 1;
    });
    while (this.#open.length < this.#vcpus.length) {
      const open = new Int32Array(this.#open.length * 2).fill(-1);
      open.set(this.#open);
      this.#open = open;
    }
    const { name, id, type } = domain;
    this.#domains.push({ name, group: about.group, id, type, pool: about.pool, vcpus });
    this.#params.push({ domain: index, values: about.values });
  }

  /** Index of a vCPU; -1: it was not added. */
  indexOf(vcpu: Vcpu): number {
    return this.#index.get(vcpu) ?? -1;
  }

  /** A domain's scheduler parameters are others from now on. */
  params(domain: number, values: ParamValues, now: number): void {
    this.add(EventKind.params, now, -1, -1, this.#params.length);
    this.#params.push({ domain, values });
  }

  /** A job ended. */
  job(vcpu: Vcpu, release: number, deadline: number, end: number): void {
    const index = this.#index.get(vcpu);
    if (index === undefined) return;
    const jobs = this.#jobs;
    if (jobs.length === jobs.end.length) {
      jobs.release = doubled(jobs.release, Float64Array);
      jobs.deadline = doubled(jobs.deadline, Float64Array);
      jobs.end = doubled(jobs.end, Float64Array);
    }
    jobs.release[jobs.length] = release;
    jobs.deadline[jobs.length] = deadline;
    jobs.end[jobs.length] = end;
    this.add(EventKind.job, end, vcpu.runningOn?.id ?? -1, index, jobs.length++);
  }

  /** The recording. Rows later than the end are left out. */
  finish(head: RecordingHead, end: number, entitlement: readonly number[] | null): Recording {
    const order = this.#order(end);
    const jobs = this.#jobs;
    return {
      ...head,
      end,
      domains: this.#domains,
      vcpus: this.#vcpus,
      params: this.#params,
      entitlement,
      faults: this.#faults,
      events: {
        time: Float64Array.from(order, (i) => this.#time[i]!),
        kind: Uint8Array.from(order, (i) => this.#kind[i]!),
        pcpu: Int16Array.from(order, (i) => this.#pcpu[i]!),
        vcpu: Int32Array.from(order, (i) => this.#vcpu[i]!),
        extra: Int32Array.from(order, (i) => this.#extra[i]!),
      },
      jobs: {
        release: jobs.release.slice(0, jobs.length),
        deadline: jobs.deadline.slice(0, jobs.length),
        end: jobs.end.slice(0, jobs.length),
      },
    };
  }

  /** Rows up to the end, by time, then by arrival. */
  #order(end: number): Uint32Array {
    const rows: Uint32Array = new Uint32Array(this.#length);
    let kept = 0;
    let sorted = true;
    let last = 0;
    for (let i = 0; i < this.#length; i++) {
      const time = this.#time[i]!;
      if (time > end) continue;
      rows[kept++] = i;
      if (time < last) sorted = false;
      last = time;
    }
    const order = rows.subarray(0, kept);
    if (!sorted) {
      const time = this.#time;
      order.sort((a, b) => time[a]! - time[b]! || a - b);
    }
    return order;
  }
}

/** Code that a plugin's stack goes through and that is not the plugin: the core, and this laboratory's faults. */
const OTHERS = [`${codeRoot}${sep}core${sep}`, `${codeRoot}${sep}plugins${sep}toolstack-lab${sep}`];

/** The first line of a stack that is a plugin's; null: there is none. What a plugin throws may be anything. */
export function placeOf(error: unknown): string | null {
  let stack: unknown;
  try {
    stack = (error as { readonly stack?: unknown } | null | undefined)?.stack;
  } catch {
    return null;
  }
  if (typeof stack !== "string") return null;
  for (const line of stack.split("\n")) {
    const match = /^\s+at (?:.*\()?(file:\/\/.*?|[/\\].*?|[A-Za-z]:\\.*?)(?:\?[^:]*)?:(\d+):\d+\)?$/.exec(line);
    if (match === null) continue;
    let file = match[1]!;
    try {
      if (file.startsWith("file:")) file = fileURLToPath(file);
    } catch {
      continue;
    }
    if (OTHERS.some((folder) => file.startsWith(folder)) || file.includes(`${sep}node_modules${sep}`)) continue;
    return `${relative(process.cwd(), file).replaceAll(sep, "/")}:${match[2]}`;
  }
  return null;
}

function doubled<T extends Float64Array | Uint8Array | Int16Array | Int32Array>(
  column: T,
  make: new (length: number) => T,
): T {
  const next = new make(column.length * 2);
  next.set(column as never);
  return next;
}
