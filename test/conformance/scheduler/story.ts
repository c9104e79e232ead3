/** A plan in words: the machine, who runs on it, and how its host misbehaves. What happens is told by the trial, which knows what came of it. */
import type { Disturbance, Plan, VcpuPlan } from "./plan.ts";

/** A time in the unit that reads best. */
export function time(ns: number): string {
  return ns >= 1e6 ? `${ns / 1e6} ms` : ns >= 1e3 ? `${ns / 1e3} us` : `${ns} ns`;
}

/** A number of things. */
export function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? "" : "s"}`;
}

/** pCPUs of a mask, of those that there are; none named: all. */
export function pcpusOf(mask: number, pcpus: number): number[] {
  const all = Array.from({ length: pcpus }, (_, id) => id);
  const named = all.filter((id) => (mask & (1 << id)) !== 0);
  return named.length === 0 ? all : named;
}

/** An affinity that is not that of everybody, in words. */
export function affinity({ hard, soft }: Pick<VcpuPlan, "hard" | "soft">, pcpus: number): string {
  const one = (kind: string, mask: number): string => {
    const named = pcpusOf(mask, pcpus);
    return named.length === pcpus ? `, ${kind} affinity all` : `, ${kind} affinity ${named.join(",")}`;
  };
  return `${one("hard", hard)}${one("soft", soft)}`;
}

function disturbance(plan: Disturbance): string {
  const { from, length, dispatch, tickle, late, coalesce, lost } = plan;
  const effects = [
    dispatch > 0 ? `doSchedule up to ${time(dispatch)} late` : "",
    tickle > 0 ? `tickles up to ${time(tickle)} late` : "",
    late > 0 ? `timers up to ${time(late)} late` : "",
    coalesce > 0 ? `timers together at multiples of ${time(coalesce)}` : "",
    lost > 0 ? `each ${lost}. timer lost` : "",
  ].filter((text) => text !== "");
  return `The host misbehaves from ${time(from)} to ${time(from + length)}: ${effects.length === 0 ? "in nothing" : effects.join(", ")}.`;
}

/** Has it any effect? */
export function disturbs(plan: Disturbance | null): boolean {
  return plan !== null && [plan.dispatch, plan.tickle, plan.late, plan.coalesce, plan.lost].some((one) => one > 0);
}

/** The plan's beginning in words, a line each. */
export function setting(plan: Plan): string[] {
  const { cores, threads, coresPerSocket, granularity, lazy, second, domains } = plan;
  const pcpus = cores * threads;
  const lines = [
    `${count(pcpus, "pCPU")}: ${count(cores, "core")} of ${count(threads, "thread")}, ${count(coresPerSocket, "core")} a socket; granularity ${granularity}; vCPUs run ${lazy ? "in one piece" : "in quanta"}${second && cores > 1 ? "; the last core is in the pool 'second'" : ""}`,
  ];
  domains.forEach((vcpus, d) => {
    vcpus.forEach((vcpu, v) => {
      const what = vcpu.sleep === 0 ? "always runs" : `runs ${time(vcpu.run)}, sleeps ${time(vcpu.sleep)}`;
      lines.push(`d${d}.${v} ${what}${vcpu.hard === 0 && vcpu.soft === 0 ? "" : affinity(vcpu, pcpus)}`);
    });
  });
  if (plan.disturbance !== null) lines.push(disturbance(plan.disturbance));
  return lines;
}
