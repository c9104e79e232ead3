/**
 * Benchmarks, side by side in one run: the software CPU alone on compute kernels, the boot of Debian's kernel here and in QEMU, and schedulers under
 * synthetic load.
 *
 * `npm run bench -- [--json FILE] [--runs N] [--boots N] [--only NAME]...`; NAME is a kernel's, `compute` (all kernels), `boot`, `lab`, a
 * scheduler's, or an architecture's, `x86` or `riscv64`. More than one narrow it down: what bears all the names is run.
 */
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { BOOTS, type BootResult, type BootSeries, boot } from "./boot.ts";
import { compute, KERNELS } from "./compute.ts";
import { type LabPoint, labPoint, schedulers } from "./lab.ts";
import { median, span } from "./statistics.ts";

const { values } = parseArgs({
  options: {
    json: { type: "string" },
    runs: { type: "string", default: "5" },
    boots: { type: "string", default: "3" },
    only: { type: "string", multiple: true, default: [] },
  },
});
const count = (text: string): number => Math.max(1, Math.floor(Number(text)) || 1);
/** Parts by the names that they bear. */
const wanted = (...names: readonly string[]): boolean => values.only.every((name) => names.includes(name));
const known = new Set([
  "compute",
  "boot",
  "lab",
  ...schedulers(),
  ...KERNELS.flatMap(({ isa, program }) => [isa, program.name]),
]);
const unknown = values.only.find((name) => !known.has(name));
if (unknown !== undefined) {
  console.error(`bench: no part bears the name ${unknown}; names are ${[...known].join(", ")}`);
  process.exit(2);
}

const host = {
  cpu: cpus()[0]?.model ?? "unknown",
  cpus: availableParallelism(),
  load: loadavg()[0] ?? 0,
  node: process.version,
};
console.log(`${host.cpu}, ${host.cpus} CPUs, load ${host.load.toFixed(1)}, Node ${host.node}\n`);

const kernels = KERNELS.filter(({ isa, program }) => wanted("compute", isa, program.name)).map(({ isa, program }) => {
  const { mips, all, instructions, ...result } = compute(isa, program, count(values.runs));
  console.log(
    `${isa.padEnd(7)} ${program.name.padEnd(8)} ${mips.toFixed(0).padStart(5)} MIPS (${span(all, 0)})  ${(instructions / 1e6).toFixed(1)} M instructions: ${program.what}`,
  );
  return { ...result, instructions, mips, all };
});

function row(name: string, of: BootSeries, memory: number): void {
  const cell = (value: number | null, digits: number, unit: string): string =>
    value === null ? "?" : `${value.toFixed(digits)} ${unit}`;
  const over = of.peak === null ? null : of.peak - memory;
  console.log(
    `${name.padEnd(8)} ${cell(of.wall, 2, "s")} wall (${span(
      of.all.map(({ wall }) => wall),
      2,
    )}), ${cell(of.cpu, 2, "s")} CPU, resident ${cell(of.resident, 0, "MiB")}, at most ${cell(of.peak, 0, "MiB")}: ${cell(over, 0, "MiB")} over the guest's`,
  );
}

const booted: BootResult[] = [];
for (const one of BOOTS) {
  if (!wanted("boot", one.isa)) continue;
  const result = await boot(one, count(values.boots));
  booted.push(result);
  const { here, qemu, memoryMiB } = result;
  console.log(`\n${one.isa}: ${one.what} ${result.kernel} to the shell, ${memoryMiB} MiB, one CPU, ${one.options}:`);
  row("here", here, memoryMiB);
  if (qemu === null) console.log(`qemu     absent: ${result.absent}`);
  else {
    row("qemu", qemu, memoryMiB);
    // pair by pair: the load that meets one boot mostly meets the next
    const ratios = (key: "wall" | "cpu"): string => {
      const of = here.all.map((one, i) => (one[key] ?? Number.NaN) / (qemu.all[i]?.[key] ?? Number.NaN));
      return `${median(of).toFixed(2)} (${span(of, 2)})`;
    };
    const cpu = here.cpu === null || qemu.cpu === null ? "" : `, ${ratios("cpu")} in CPU time`;
    console.log(`ratio    ${ratios("wall")} in wall time${cpu} (here / ${qemu.version})`);
  }
}

const labPoints: LabPoint[] = [];
const labs = schedulers().filter((name) => wanted("lab", name));
if (labs.length > 0) {
  console.log(
    "\nSchedulers, 64 pCPUs: decisions a second of CPU time (in brackets while switches and runstates are recorded)",
  );
  const runs = count(values.runs);
  const point = (scheduler: string, vcpus: number, tracing: boolean): LabPoint => {
    const measured = labPoint(scheduler, vcpus, tracing, runs);
    labPoints.push(measured);
    return measured;
  };
  const short = (value: number): string => `${(value / 1000).toFixed(0)}k`.padStart(6);
  for (const scheduler of labs) {
    const plain = point(scheduler, 256, false);
    const traced = point(scheduler, 256, true);
    const more = [1000, 10_000].map((vcpus) => point(scheduler, vcpus, false));
    const grown = more.map(
      (one) => `${one.vcpus} vCPUs ${short(one.decisions)}, x${(one.cost / plain.cost).toFixed(1)} a decision`,
    );
    console.log(
      `${scheduler.padEnd(12)} 256 vCPUs ${short(plain.decisions)} (${short(traced.decisions)}); ${grown.join("; ")}; resident ${more.at(-1)!.resident.toFixed(0)} MiB`,
    );
  }
}

if (values.json !== undefined)
  writeFileSync(values.json, `${JSON.stringify({ host, compute: kernels, boot: booted, lab: labPoints }, null, 2)}\n`);
