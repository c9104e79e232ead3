/**
 * Context switches (a vCPU is put on a pCPU) and migrations (it is another pCPU than the vCPU's last), by domain, after the warm-up.
 */
import { EventKind, type RecordedPcpu, type Recording } from "../recording.ts";
import type { Migrations } from "./types.ts";

export interface Movement {
  readonly switches: number;
  readonly migrations: Migrations;
}

/** How far apart two pCPUs are. */
export function distance(a: RecordedPcpu, b: RecordedPcpu): keyof Migrations {
  if (a.node !== b.node) return "node";
  if (a.socket !== b.socket) return "socket";
  return a.core === b.core ? "thread" : "core";
}

/** By domain. */
export function movement(recording: Recording): readonly Movement[] {
  const { events, vcpus, pcpus, warmUp } = recording;
  const byId = new Map(pcpus.map((pcpu) => [pcpu.id, pcpu]));
  const found = recording.domains.map(() => ({
    switches: 0,
    migrations: { thread: 0, core: 0, socket: 0, node: 0 },
  }));
  const last = new Int16Array(vcpus.length).fill(-1);
  for (let i = 0; i < events.time.length; i++) {
    if (events.kind[i] !== EventKind.runstate || (events.extra[i]! & 3) !== 0) continue;
    const vcpu = events.vcpu[i]!;
    const to = events.pcpu[i]!;
    const from = last[vcpu]!;
    last[vcpu] = to;
    if (events.time[i]! < warmUp) continue;
    const one = found[vcpus[vcpu]!.domain]!;
    one.switches++;
    if (from < 0 || to < 0 || from === to) continue;
    one.migrations[distance(byId.get(from)!, byId.get(to)!)]++;
  }
  return found;
}

/** All domains together. */
export function movementOfAll(all: readonly Movement[]): Movement {
  const migrations = { thread: 0, core: 0, socket: 0, node: 0 };
  let switches = 0;
  for (const one of all) {
    switches += one.switches;
    for (const key of ["thread", "core", "socket", "node"] as const) migrations[key] += one.migrations[key];
  }
  return { switches, migrations };
}
