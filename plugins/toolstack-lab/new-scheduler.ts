/**
 * `hookvisor new scheduler NAME [DIR]`: writes the folder of a scheduler plugin that runs, with a test and a README, and says what to do next.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { ConfigError } from "hookvisor";

/** The files of a new scheduler, by their paths in its folder. */
export function schedulerFiles(name: string): Readonly<Record<string, string>> {
  return {
    "plugin.ts": plugin(name),
    [`${name}.test.ts`]: test(name),
    "experiment.yaml": experiment(name),
    "README.md": readme(name),
  };
}

/** Writes them; answers what to say. ConfigError. */
export function newScheduler(name: string, folder: string | undefined, taken: readonly string[]): string {
  if (!/^[a-z][a-z0-9-]{0,40}$/.test(name))
    throw new ConfigError(
      `A scheduler's name is made of lower-case letters, digits and '-', 41 characters at most and a letter first, such as my-scheduler; got '${name}'.`,
    );
  if (taken.includes(name))
    throw new ConfigError(`There is a scheduler '${name}' already; give the new one another name.`);
  const target = resolve(folder ?? name);
  const shown = relative(process.cwd(), target) || ".";
  if (existsSync(target) && readdirSync(target).length > 0)
    throw new ConfigError(`The folder ${shown} is there already and is not empty; give another, or remove it.`);
  try {
    mkdirSync(target, { recursive: true });
    for (const [file, text] of Object.entries(schedulerFiles(name))) writeFileSync(join(target, file), text);
  } catch (error) {
    throw new ConfigError(
      `The folder ${shown} cannot be written (${(error as NodeJS.ErrnoException).code ?? String(error)}).`,
      {
        cause: error,
      },
    );
  }
  const path = shown.startsWith("..") || shown.startsWith("/") ? shown : `./${shown}`;
  return `${shown} has a scheduler that runs: plugin.ts. Next:\n  npx hookvisor lab compare ${join(path, "experiment.yaml")} --plugin ${path} --scheduler credit2 --scheduler ${name}\n`;
}

function className(name: string): string {
  return name
    .split("-")
    .map((part) => part.charAt(0).toUpperCase() + part.slice(1))
    .join("");
}

function plugin(name: string): string {
  return `/** Scheduler ${name}: units take equal turns from one queue. Make it yours. */
import { definePlugin, type Scheduler, type SchedulerHost, type SchedulerPcpu, type SchedulingUnit } from "hookvisor";

const TURN = 5_000_000; // nanoseconds
function make(host: SchedulerHost): Scheduler {
  const queue: SchedulingUnit[] = []; // runnable units that wait for their turn, the next one first
  const enqueue = (unit: SchedulingUnit, left: SchedulerPcpu | null): void => {
    if (!queue.includes(unit)) queue.push(unit);
    for (const pcpu of host.pcpus) if (pcpu.currentUnit === null && pcpu !== left) host.tickle(pcpu);
  };
  const sleep = (unit: SchedulingUnit): void => {
    if (queue.includes(unit)) queue.splice(queue.indexOf(unit), 1);
  };
  return {
    insertUnit() {},
    removeUnit: sleep,
    sleep,
    wake: (unit) => unit.runningOn === null && enqueue(unit, null),
    // It has left its pCPU, which is about to take another: one that idles may have it.
    contextSaved: (unit) => unit.runnable && enqueue(unit, unit.lastPcpu),
    doSchedule(pcpu: SchedulerPcpu) {
      const current = pcpu.currentUnit?.runnable ? pcpu.currentUnit : null;
      if (current !== null && !queue.includes(current)) queue.push(current);
      const free = queue.filter((unit) => unit === current || unit.runningOn === null);
      const next = free.find((unit) => unit.hardAffinity.has(pcpu.id)) ?? null;
      if (next !== null) sleep(next);
      return { unit: next, slice: next === null ? null : TURN };
    },
  };
}

export default definePlugin({
  name: "scheduler-${name}",
  api: "^1.0.0",
  apply: ({ hooks }) => hooks.scheduler.for("${name}").tap("scheduler-${name}", make),
});
`;
}

function test(name: string): string {
  return `/**
 * Scheduler ${name} passes the conformance kit, which every scheduler passes: random loads, affinities, changes and faults.
 * Run it by \`node --test\` (Node 24 or newer), in a project where hookvisor is installed.
 */
import { describe, test } from "node:test";
import { createHooks } from "hookvisor";
import { schedulerSuite } from "hookvisor/conformance";
import plugin from "./plugin.ts";

// The plugin's own tap makes each scheduler that the kit asks for.
const hooks = createHooks();
plugin.apply({ hooks, apiVersion: "1.0.0", ownHooks: () => {}, hooksOf: () => undefined });

schedulerSuite(
  {
    describe,
    test,
    check(condition, message) {
      if (!condition) throw new Error(message);
    },
  },
  { name: "${name}", make: (host) => hooks.scheduler.for("${name}").call(host)! },
);
`;
}

function experiment(name: string): string {
  return `# Two domains that never stop, and one that waits for I/O: who gets how much, and how soon?
# npx hookvisor lab run experiment.yaml --plugin . --scheduler ${name}
name: ${name}
duration: 10s
warmUp: 1s
seeds: [1, 2, 3, 4, 5]
machine: { pcpus: 2 }
scheduler: ${name}
domains:
  - { name: hog, count: 2, vcpus: 2, workload: { behaviour: hog } }
  - { name: io, count: 2, workload: { behaviour: io, rate: 200, service: 100us } }
`;
}

function readme(name: string): string {
  return `# Scheduler ${name} (${className(name)})

A hookvisor scheduler: \`plugin.ts\`. Units (vCPUs) take equal turns of 5 ms from one queue.

- Run a guest under it: \`npx hookvisor run hello --plugin . --scheduler ${name}\`
- Measure it: \`npx hookvisor lab run experiment.yaml --plugin .\`
- Against another: \`npx hookvisor lab compare experiment.yaml --plugin . --scheduler credit2 --scheduler ${name}\`
- Test it: \`node --test ${name}.test.ts\`

What a scheduler may do, and what it can rely on, is in hookvisor's \`core/scheduling/scheduler.ts\`.
`;
}
