/**
 * `hookvisor demo`, what `npm start` runs: the project's own guests side by side under the credit scheduler, their consoles as they run, and at the end
 * a table of CPU time against weight.
 */
import { readFileSync } from "node:fs";
import { ConfigError, type DomainConfig } from "hookvisor";
import { createGuard } from "../../core/node/guard.ts";
import type { HostRun } from "../../core/node/host-plugin.ts";
import { Console, Multiplexer } from "./console.ts";
import { ownImages } from "./images.ts";
import { Session } from "./session.ts";
import { formatDuration, table } from "./units.ts";

/** Virtual seconds that the demonstration lasts. */
const SECONDS = 6;
/** Instructions a virtual microsecond: slow, so that the demonstration is short. */
const CPU_MHZ = 50;

/** The guests: three that compete, with weights, and two that show something. */
const GUESTS: readonly {
  readonly name: string;
  readonly image: string;
  readonly extra: string;
  readonly weight: number;
}[] = [
  { name: "hello", image: "hello", extra: "", weight: 256 },
  { name: "clock", image: "clock", extra: "", weight: 256 },
  { name: "light", image: "busy", extra: `seconds=${SECONDS}`, weight: 256 },
  { name: "middle", image: "busy", extra: `seconds=${SECONDS}`, weight: 512 },
  { name: "heavy", image: "busy", extra: `seconds=${SECONDS}`, weight: 1024 },
];

/** Runs the demonstration; answers the exit code. */
export async function demoCommand(run: HostRun): Promise<number> {
  const { hypervisor, streams } = run;
  const images = ownImages(run.root);
  const say = (text: string): void => void streams.stdout.write(text);
  const screen = new Multiplexer(
    GUESTS.map((g) => g.name),
    (bytes) => void streams.stdout.write(bytes),
  );
  run.host.terminals = (domain) => {
    const console = new Console(domain.name);
    console.onOutput = (bytes) => screen.show(domain.name, bytes);
    return console;
  };
  const session = new Session(hypervisor);
  session.onCreate = (domain, name) => {
    domain.onConsoleWrite = (bytes) => screen.show(name, bytes);
  };
  session.onNote = (text) => say(`-- ${text}\n`);
  let interrupted = false;
  const interrupt = (): void => {
    interrupted = true;
  };
  process.once("SIGINT", interrupt);
  run.outputLost.addEventListener("abort", interrupt);
  const started = performance.now();
  try {
    await hypervisor.boot({ memoryMiB: 512, pcpus: 1, cpuMhz: CPU_MHZ, scheduler: "credit" });
    say(`${GUESTS.length} Xen guests on one simulated CPU of ${CPU_MHZ} MHz, under the credit scheduler:\n\n`);
    for (const guest of GUESTS) {
      const path = images.get(guest.image);
      if (path === undefined)
        throw new ConfigError(`The image '${guest.image}' is missing from ${run.root}/test/guests/images.`);
      const config: DomainConfig = {
        name: guest.name,
        type: "pv",
        kernel: readFileSync(path),
        kernelName: path,
        ramdisk: null,
        extra: guest.extra,
        memoryMiB: 16,
        vcpus: 1,
        devices: [{ type: "console", spec: "" }],
        schedulerParams: { weight: guest.weight },
      };
      await session.add(config);
    }
    session.start();
    await session.run(
      { until: (SECONDS + 1) * 1e9, wallTimeout: 60_000, guard: createGuard(hypervisor) },
      () => interrupted,
    );
    screen.finish();
    const results = session.results();
    const total = results.reduce((sum, r) => sum + r.times.running, 0);
    const rows = results.map((r, i) => [
      r.name,
      String(GUESTS[i]!.weight),
      (r.times.running / 1e9).toFixed(3),
      ((100 * r.times.running) / Math.max(1, total)).toFixed(1),
      (r.times.runnable / 1e9).toFixed(3),
      r.outcome,
    ]);
    say(`\n${table([["GUEST", "WEIGHT", "CPU s", "SHARE %", "WAITED s", "END"], ...rows])}`);
    say(
      `\n${formatDuration(hypervisor.machine.now)} of virtual time in ${((performance.now() - started) / 1000).toFixed(1)} s. Next: hookvisor run --help\n`,
    );
    return interrupted ? 130 : results.some((r) => r.outcome === "crash") ? 3 : 0;
  } finally {
    process.removeListener("SIGINT", interrupt);
    run.outputLost.removeEventListener("abort", interrupt);
    await hypervisor.shutdown();
  }
}
