/**
 * pCPU time: in use, there to be used, and idled while a vCPU that might have run there waited.
 *
 * At each moment as many pCPUs idle in vain as are idle and allowed to some waiting vCPU, at most as many as there are waiting vCPUs. With a coarser
 * granularity than `cpu` a sibling that the unit on the core has no vCPU for counts too: that is the price of it. vCPUs of a domain that has used up
 * what its cap or budget gives it (held.ts) do not count: they may not run. Other policies that leave pCPUs idle (time tables) do count.
 */
import { EventKind, type Recording } from "../recording.ts";
import { Affinities } from "./affinity.ts";
import { Held } from "./held.ts";

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
  const waitingOf = new Uint8Array(vcpus.length);
  /** Whether a vCPU is among `counts`: it waits, and its domain is not held back. */
  const counted = new Uint8Array(vcpus.length);
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
  const count = (v: number): void => {
    const change = (waitingOf[v] === 1 && !held.has(vcpus[v]!.domain) ? 1 : 0) - counted[v]!;
    if (change === 0) return;
    counted[v] = counted[v]! + change;
    waiting += change;
    const index = affinities.classOf[v]!;
    counts.set(index, (counts.get(index) ?? 0) + change);
  };
  const held = new Held(recording, (domain) => recording.domains[domain]!.vcpus.forEach(count));
  const advance = (until: number): void => {
    while (held.next < until) {
      stretch(held.next);
      held.release();
    }
    stretch(until);
  };
  const stretch = (to: number): void => {
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
      if (counted[v] === 1) {
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
      waitingOf[v] = to === 1 ? 1 : 0;
      held.runstate(v, from, to, events.time[i]!);
      count(v);
    } else if (events.kind[i] === EventKind.params) held.params(events.extra[i]!, events.time[i]!);
    else if (affinities.event(i)) {
      online = affinities.online;
      recount();
    }
  }
  advance(end);
  return { busy, capacity, idleWhileWaiting: inVain };
}
