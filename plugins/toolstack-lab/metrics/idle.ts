/**
 * pCPU time: in use, there to be used, and idled while a vCPU that might have run there waited.
 *
 * At each moment as many pCPUs idle in vain as are idle and allowed to some waiting vCPU, at most as many as there are waiting vCPUs. With a coarser
 * granularity than `cpu` a sibling that the unit on the core has no vCPU for counts too: that is the price of it.
 */
import { EventKind, type Recording } from "../recording.ts";
import { Affinities } from "./affinity.ts";

export interface PcpuTime {
  readonly busy: number;
  readonly capacity: number;
  readonly idleWhileWaiting: number;
}

export function pcpuTime(recording: Recording): PcpuTime {
  const { events, vcpus, pcpus, warmUp, end } = recording;
  const affinities = new Affinities(recording);
  const position = new Map(pcpus.map((pcpu, i) => [pcpu.id, i]));
  const running = new Int32Array(pcpus.length).fill(-1);
  const waitingOf = new Int32Array(vcpus.length);
  const counts = new Map<number, number>();
  let waiting = 0;
  let busyCpus = 0;
  let online = affinities.online;
  let last = warmUp;
  let busy = 0;
  let capacity = 0;
  let inVain = 0;

  const vain = (): number => {
    if (waiting === 0 || busyCpus >= online) return 0;
    let found = 0;
    for (let p = 0; p < pcpus.length && found < waiting; p++) {
      if (running[p]! >= 0 || affinities.pcpuPool[p]! < 0) continue;
      for (const [index, count] of counts)
        if (count > 0 && affinities.classes[index]!.cpus.includes(pcpus[p]!.id)) {
          found++;
          break;
        }
    }
    return found;
  };
  const advance = (to: number): void => {
    const length = to - last;
    if (length <= 0) return;
    busy += busyCpus * length;
    capacity += online * length;
    inVain += vain() * length;
    last = to;
  };
  const recount = (): void => {
    counts.clear();
    for (let v = 0; v < vcpus.length; v++)
      if (waitingOf[v] === 1) {
        const index = affinities.classOf[v]!;
        counts.set(index, (counts.get(index) ?? 0) + 1);
      }
  };

  for (let i = 0; i < events.time.length; i++) {
    advance(events.time[i]!);
    if (events.kind[i] === EventKind.runstate) {
      const v = events.vcpu[i]!;
      const from = events.extra[i]! >> 2;
      const to = events.extra[i]! & 3;
      const p = position.get(events.pcpu[i]!);
      if (p !== undefined) {
        if (from === 0 && running[p] === v) {
          running[p] = -1;
          busyCpus--;
        }
        if (to === 0) {
          if (running[p]! < 0) busyCpus++;
          running[p] = v;
        }
      }
      const change = (to === 1 ? 1 : 0) - waitingOf[v]!;
      if (change !== 0) {
        waitingOf[v] = waitingOf[v]! + change;
        waiting += change;
        const index = affinities.classOf[v]!;
        counts.set(index, (counts.get(index) ?? 0) + change);
      }
    } else if (affinities.event(i)) {
      online = affinities.online;
      recount();
    }
  }
  advance(end);
  return { busy, capacity, idleWhileWaiting: inVain };
}
