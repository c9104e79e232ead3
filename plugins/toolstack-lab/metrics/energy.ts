/**
 * Energy of the machine and of each domain after the warm-up, by lib-energy's cubic model with its default figures: it compares policies, it predicts no
 * power bill.
 */
import { cubicModel, EnergyMeter } from "../../lib-energy/index.ts";
import { feed } from "../feed.ts";
import { EventKind, type Recording } from "../recording.ts";

/** Energy in J: of all, and by domain. */
export interface Energy {
  readonly all: number;
  readonly domains: readonly number[];
}

export function energy(recording: Recording): Energy {
  const { pcpus, domains, events, warmUp } = recording;
  const mhz = pcpus[0]?.mhz ?? 1000;
  let maxMhz = mhz;
  for (let i = 0; i < events.time.length; i++)
    if (events.kind[i] === EventKind.frequency) maxMhz = Math.max(maxMhz, events.extra[i]! / 1000);
  const meter = new EnergyMeter({ pcpus: pcpus.length, mhz, model: cubicModel({ maxMhz }) });
  feed(recording, meter, { at: warmUp, reached: () => meter.reset(warmUp) });
  const report = meter.report();
  const byId = new Map(report.domains.map(({ domain, total }) => [domain, total]));
  return { all: report.total, domains: domains.map(({ id }) => byId.get(id) ?? 0) };
}
