/**
 * Where each vCPU may run, as pools change: the pCPUs of its pool that its hard affinity names, or all of the pool when it names none of them.
 *
 * vCPUs that may run on the same pCPUs are one class. Fed with the events of a recording in order; classes are made anew after a change.
 */
import { EventKind, type Recording } from "../recording.ts";

/** vCPUs that may run on the same pCPUs. */
export interface AffinityClass {
  readonly pool: number;
  /** Numbers of pCPUs, rising. */
  readonly cpus: readonly number[];
}

export class Affinities {
  /** Index of each pCPU's pool, -1: none; by position in recording.pcpus. */
  readonly pcpuPool: Int16Array;
  readonly #vcpuPool: Int32Array;
  readonly #recording: Recording;
  readonly #position: ReadonlyMap<number, number>;
  #classes: AffinityClass[] = [];
  /** Index of each vCPU's class. */
  readonly classOf: Int32Array;

  constructor(recording: Recording) {
    this.#recording = recording;
    this.#position = new Map(recording.pcpus.map((pcpu, i) => [pcpu.id, i]));
    this.pcpuPool = Int16Array.from(recording.pcpus, (pcpu) => pcpu.pool);
    this.#vcpuPool = Int32Array.from(recording.vcpus, (vcpu) => recording.domains[vcpu.domain]!.pool);
    this.classOf = new Int32Array(recording.vcpus.length);
    this.#renew();
  }

  get classes(): readonly AffinityClass[] {
    return this.#classes;
  }

  /** pCPUs that are in a pool. */
  get online(): number {
    let count = 0;
    for (const pool of this.pcpuPool) if (pool >= 0) count++;
    return count;
  }

  /** Takes over row `i` of the events; true: pools or classes are others now. */
  event(i: number): boolean {
    const { kind, pcpu, vcpu, extra } = this.#recording.events;
    if (kind[i] === EventKind.pcpuPool) this.pcpuPool[this.#position.get(pcpu[i]!)!] = extra[i]!;
    else if (kind[i] === EventKind.vcpuPool) this.#vcpuPool[vcpu[i]!] = extra[i]!;
    else return false;
    this.#renew();
    return true;
  }

  #renew(): void {
    const { vcpus, pcpus, pools } = this.#recording;
    const ofPool = pools.map((_, pool) => pcpus.filter((_pcpu, i) => this.pcpuPool[i] === pool).map((one) => one.id));
    const known = new Map<string, number>();
    this.#classes = [];
    vcpus.forEach((vcpu, v) => {
      const pool = this.#vcpuPool[v]!;
      const key = `${pool}:${vcpu.hard === null ? "" : vcpu.hard.join()}`;
      let index = known.get(key);
      if (index === undefined) {
        const all = ofPool[pool] ?? [];
        const { hard } = vcpu;
        const some = hard === null ? all : all.filter((cpu) => hard.includes(cpu));
        const cpus = some.length > 0 ? some : all;
        index = this.#classes.findIndex((one) => one.pool === pool && one.cpus.join() === cpus.join());
        if (index < 0) index = this.#classes.push({ pool, cpus }) - 1;
        known.set(key, index);
      }
      this.classOf[v] = index;
    });
  }
}
