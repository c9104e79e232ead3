/**
 * Schedulers under synthetic load: scheduling decisions a second of host CPU time, for each scheduler there is, with and without a recording; how the
 * cost of a decision and the memory grow with the number of vCPUs.
 *
 * Each measurement is a process of its own (`--child`), so that one scheduler's machine code and memory are not another's. The load is jobs of 0.1 to
 * 0.3 ms, four vCPUs a domain, on 64 pCPUs in sockets of 16, such that about 1.2 of what the pCPUs can do is asked for; the first tenth warms
 * the host's compiler up. The hypervisor is the real one: domains, XenStore, event channels and all.
 */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Hypervisor } from "../../core/hypervisor.ts";
import { hostPlugin } from "../../core/node/host-plugin.ts";
import { NodeHost } from "../../core/node/host-services.ts";
import { loadProjectPlugins } from "../../core/node/load.ts";
import { median } from "./statistics.ts";

/** One measurement. */
export interface LabPoint {
  readonly scheduler: string;
  readonly vcpus: number;
  /** Every switch and runstate is recorded. */
  readonly tracing: boolean;
  /** doSchedule calls, and those that put another vCPU on a pCPU or took one off, a second of CPU time. */
  readonly decisions: number;
  readonly switches: number;
  /** Nanoseconds of CPU time a decision. */
  readonly cost: number;
  /** Resident, MiB, at the end. */
  readonly resident: number;
}

const PCPUS = 64;
const MS = 1e6;

/** Names of the schedulers of the repository. */
export function schedulers(): readonly string[] {
  return readdirSync(new URL("../../plugins", import.meta.url))
    .filter((name) => name.startsWith("scheduler-"))
    .map((name) => name.slice("scheduler-".length))
    .sort();
}

/** Measures in this process. */
async function measure(scheduler: string, vcpus: number, tracing: boolean, wanted: number): Promise<LabPoint> {
  const plugins = await loadProjectPlugins();
  const hypervisor = new Hypervisor({ plugins: [hostPlugin(), ...plugins], services: new NodeHost() });
  let events = 0;
  if (tracing) {
    const times = new Float64Array(1 << 16);
    const what = new Int32Array(1 << 16);
    hypervisor.hooks.runstate.tap("bench", (vcpu, from, to, now) => {
      const at = events++ & 0xffff;
      times[at] = now;
      what[at] = vcpu.domain.id * 16 + from * 4 + to;
    });
    hypervisor.hooks.contextSwitch.tap("bench", (pcpu, _previous, _next, now) => {
      const at = events++ & 0xffff;
      times[at] = now;
      what[at] = pcpu.id;
    });
  }
  const costs = { contextSwitch: 0, migration: 0, tickle: 0, warmUp: 0, coldAfter: 0 };
  await hypervisor.boot({ scheduler, pcpus: PCPUS, coresPerSocket: 16, memoryMiB: 1024, costs });
  // Jobs of 0.2 ms in the mean, so often that 1.2 of what the pCPUs can do is asked for; one that comes while the last is under way is dropped.
  const period = Math.max(0.25 * MS, Math.round((0.2 * MS * vcpus) / (PCPUS * 1.2)));
  const budget = { uniform: ["100us", "300us"] };
  const image = new TextEncoder().encode(
    JSON.stringify({ behaviour: "periodic", period, budget, jitter: period - 1, deadline: null, late: "skip" }),
  );
  for (let done = 0; done < vcpus; done += 4) {
    const domain = await hypervisor.createDomain({
      ...{ name: `d${done / 4}`, type: "workload", kernel: image, kernelName: "bench", ramdisk: null, extra: "" },
      ...{ memoryMiB: 1, vcpus: Math.min(4, vcpus - done), devices: [], schedulerParams: {} },
    });
    hypervisor.unpause(domain);
  }
  const { scheduling, loop } = hypervisor;
  let decisions = 0;
  let switches = 0;
  const original = scheduling.schedule.bind(scheduling);
  scheduling.schedule = (resource) => {
    const before = resource.currentUnit;
    original(resource);
    decisions++;
    if (resource.currentUnit !== before) switches++;
  };
  const run = (count: number): void => {
    const end = decisions + count;
    while (decisions < end)
      for (let i = 0; i < 256; i++) if (loop.step(Infinity) !== "ran") throw new Error("the load ended");
  };
  run(wanted / 10);
  decisions = 0;
  switches = 0;
  const before = process.cpuUsage();
  run(wanted);
  const { user, system } = process.cpuUsage(before);
  const seconds = (user + system) / 1e6;
  const fault = scheduling.pools[0]!.faults[0];
  if (fault !== undefined) throw new Error(fault.reason);
  return {
    ...{ scheduler, vcpus, tracing },
    decisions: decisions / seconds,
    switches: switches / seconds,
    cost: (seconds * 1e9) / decisions,
    resident: process.memoryUsage().rss / 2 ** 20,
  };
}

/** Measures in processes of its own; the median of `runs`. */
export function labPoint(scheduler: string, vcpus: number, tracing: boolean, runs: number): LabPoint {
  const points = Array.from({ length: runs }, () => {
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      [...process.execArgv, fileURLToPath(import.meta.url), "--child", scheduler, `${vcpus}`, `${tracing}`],
      { encoding: "utf8", maxBuffer: 1 << 24 },
    );
    if (status !== 0)
      throw new Error(`bench of ${scheduler} with ${vcpus} vCPUs: ${stderr.trim().split("\n")[0] ?? status}`);
    return JSON.parse(stdout) as LabPoint;
  });
  const of = (pick: (point: LabPoint) => number): number => median(points.map(pick));
  return {
    ...{ scheduler, vcpus, tracing },
    decisions: of((p) => p.decisions),
    switches: of((p) => p.switches),
    cost: of((p) => p.cost),
    resident: of((p) => p.resident),
  };
}

if (process.argv[2] === "--child") {
  const [, , , scheduler = "", vcpus, tracing] = process.argv;
  const point = await measure(scheduler, Number(vcpus), tracing === "true", 1_000_000);
  process.stdout.write(JSON.stringify(point));
}
