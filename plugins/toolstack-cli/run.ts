/**
 * `hookvisor run`: from the command line to an exit code.
 *
 * Exit codes: 0 every guest powered off; 1 the user's mistake; 3 a guest crashed; 124 a limit (virtual or wall time, or nothing can ever
 * happen again); 130 interrupted. With several guests the worst wins (1, 3, 130, 124, 0).
 */
import { readFileSync, statSync } from "node:fs";
import {
  type BootConfig,
  ConfigError,
  type Domain,
  type DomainConfig,
  type Hypervisor,
  type Nanoseconds,
  providers,
  type RunEnd,
} from "hookvisor";
import { createGuard } from "../../core/node/guard.ts";
import type { HostRun } from "../../core/node/host-plugin.ts";
import { isDeb, kernelOfDeb, unpackKernel } from "../lib-image/index.ts";
import { Attachment } from "./attach.ts";
import { Console, Multiplexer } from "./console.ts";
import { commandLineOf, type DomainDraft } from "./domain-draft.ts";
import type { ToolstackHooks } from "./hooks.ts";
import { parseInputScript, ScriptRunner } from "./input-script.ts";
import { type DraftSources, guessType, makeDrafts, schedulerValues } from "./items.ts";
import { type DomainResult, Session } from "./session.ts";
import { TraceWriter } from "./trace.ts";
import { formatDuration } from "./units.ts";
import type { XlSetting } from "./xl-cfg.ts";

/** Exit codes of `hookvisor run`. */
export const EXIT = Object.freeze({ ok: 0, user: 1, crashed: 3, limit: 124, interrupted: 130 });

/** Memory of a domain that says none, in MiB. */
const DEFAULT_MEMORY = 128;
/** What the machine has beyond its guests' memory, in MiB. */
const SPARE_MEMORY = 64;

/** Options of the command, checked. */
export interface RunSettings {
  /** Settings that apply to every item. */
  readonly options: readonly XlSetting[];
  readonly scheduler: string;
  readonly pcpus: number;
  readonly cpuMhz: number;
  readonly seed: number;
  readonly machineMemory: number | null;
  readonly realtime: boolean;
  readonly maxTime: Nanoseconds | null;
  /** Host milliseconds. */
  readonly timeout: number | null;
  readonly input: string | null;
  readonly trace: string | null;
  readonly json: boolean;
  readonly quiet: boolean;
  /** The hypervisor's whole log is shown. */
  readonly verbose: boolean;
}

/** Runs the command. */
export async function runCommand(
  run: HostRun,
  toolstack: ToolstackHooks,
  args: readonly string[],
  settings: RunSettings,
): Promise<number> {
  const { hypervisor, streams } = run;
  const note = (text: string): void => {
    if (!settings.quiet) streams.stderr.write(`hookvisor: ${text}\n`);
  };
  const image = { streams, quiet: settings.quiet };
  const sources: DraftSources = { hypervisor, toolstack, options: settings.options, image, note };
  const drafts = await makeDrafts(args, sources);
  const files: Files[] = [];
  for (const draft of drafts) files.push(await loadFiles(draft));
  const names = drafts.map((draft) => draft.name!);
  const script = settings.input === null ? null : parseInputScript(readText(settings.input), settings.input, names);
  const trace = settings.trace === null ? null : new TraceWriter(settings.trace);
  const session = new Session(hypervisor);
  trace?.tap(hypervisor.hooks);
  let booted = false;
  hypervisor.hooks.pluginFault.intercept({
    name: "toolstack-cli",
    call: ({ plugin, kind, reason, place, error }) => {
      if (!booted)
        note(`${kind} of plugin '${plugin}' is ejected: ${reason}${place === undefined ? "" : ` at ${place}`}`);
      if ((process.env["HOOKVISOR_DEBUG"] ?? "") !== "" && error instanceof Error) note(String(error.stack));
    },
  });
  const out = settings.json ? streams.stderr : streams.stdout;
  const consoles = new Consoles(hypervisor, names, out, trace);
  run.host.terminals = (domain, index) => consoles.terminal(domain, index);
  session.onCreate = (domain, name) => {
    const console = consoles.byName(name);
    domain.onConsoleWrite = (bytes) => console.write(bytes);
  };
  session.onNote = note;
  const attachment = new Attachment(run, consoles, names, note);
  try {
    const machine = machineConfig(run, settings, drafts);
    await hypervisor.boot(machine);
    booted = true; // from here on the log says it
    const guard = createGuard(hypervisor);
    hypervisor.devices.guard = guard;
    hypervisor.machine.onLog = (message) => {
      if (settings.verbose || isForUser(message)) note(message);
    };
    trace?.machine(hypervisor.machine.config, settings.scheduler, run.config.pools ?? null);
    if (script !== null) trace?.input("script", script);
    for (const [i, draft] of drafts.entries()) {
      const config = domainConfig(draft, files[i]!, sources);
      trace?.file(`kernel ${config.name}`, config.kernelName, config.kernel);
      await session.add(config);
    }
    if (script !== null)
      consoles.script = new ScriptRunner(script, names[0]!, (name, text) => consoles.type(name, text));
    else attachment.attach();
    session.start();
    consoles.script?.start();
    const end = await session.run(
      {
        ...(settings.maxTime === null ? {} : { until: settings.maxTime }),
        ...(settings.timeout === null ? {} : { wallTimeout: settings.timeout }),
        realtime: settings.realtime || (script === null && attachment.live),
        input: () => attachment.nextInput(),
        guard,
      },
      () => attachment.interrupted,
    );
    return report(run, settings, session.results(), end, consoles, note);
  } finally {
    attachment.release();
    consoles.finish();
    await hypervisor.shutdown();
    trace?.close();
  }
}

/** What is worth a person's notice in the hypervisor's log: plugins that were ejected, and what devices have to say. */
function isForUser(message: string): boolean {
  return /eject|closed|refused|wild|failed|^\S+ \d+ of \S+ \(domain \d+\): /.test(message);
}

/** The consoles of all domains and the way of their output. */
class Consoles {
  readonly #consoles = new Map<string, Console>();
  readonly #multiplexer: Multiplexer | null;
  readonly #hypervisor: Hypervisor;
  readonly #trace: TraceWriter | null;
  /** The screen shows what guests print. */
  shown = true;
  script: ScriptRunner | null = null;

  constructor(
    hypervisor: Hypervisor,
    names: readonly string[],
    out: { write(bytes: Uint8Array | string): unknown },
    trace: TraceWriter | null,
  ) {
    this.#hypervisor = hypervisor;
    this.#trace = trace;
    this.#multiplexer = names.length > 1 ? new Multiplexer(names, (bytes) => void out.write(bytes)) : null;
    for (const name of names) {
      const console = new Console(name);
      console.onOutput = (bytes) => {
        if (this.shown) {
          if (this.#multiplexer !== null) this.#multiplexer.show(name, bytes);
          else out.write(bytes.slice());
        }
        if (this.script !== null) this.script.printed(name, Buffer.from(bytes).toString("latin1"));
      };
      this.#consoles.set(name, console);
    }
  }

  byName(name: string): Console {
    const console = this.#consoles.get(name);
    if (console === undefined) throw new Error(`no console of ${name}`);
    return console;
  }

  /** The terminal of a domain's console; secondary ones go nowhere. */
  terminal(domain: Domain, index: number): Console {
    return index === 0
      ? (this.#consoles.get(domain.name) ?? new Console(domain.name))
      : new Console(`${domain.name}.${index}`);
  }

  /** Types at the present virtual time. False: too much waits already. */
  type(name: string, text: string | Uint8Array): void {
    const bytes = typeof text === "string" ? Buffer.from(text, "latin1") : text;
    this.#hypervisor.inject(() => {
      this.#trace?.typed(this.#hypervisor.machine.now, name, bytes);
      this.byName(name).type(bytes);
    });
  }

  finish(): void {
    this.#multiplexer?.finish();
  }
}

export type { Consoles };

interface Files {
  readonly kernel: Uint8Array;
  readonly ramdisk: Uint8Array | null;
}

/** Reads a domain's files; a kernel that is packed (bzImage, gzip, ..., a Debian package) is unpacked here, once, not in the guest. */
async function loadFiles(draft: DomainDraft): Promise<Files> {
  if (draft.kernel === null)
    throw new ConfigError(`Domain '${draft.name}' has no kernel; give kernel="FILE" in its config or --kernel FILE.`);
  const file = readBytes(draft.kernel, "Kernel");
  const kernel = isDeb(file) ? (await kernelOfDeb(draft.kernel)).bytes : file;
  return {
    kernel: await unpackKernel(kernel, `Kernel ${draft.kernel}`),
    ramdisk: draft.ramdisk === null ? null : readBytes(draft.ramdisk, "Ramdisk"),
  };
}

function readBytes(path: string, what: string): Uint8Array {
  try {
    if (statSync(path).isDirectory()) throw new ConfigError(`${what} ${path} is a folder, and a file is wanted.`);
    return readFileSync(path);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw new ConfigError(
      code === "ENOENT"
        ? `${what} ${path}: there is no such file.`
        : `${what} ${path} cannot be read (${code ?? String(error)}).`,
    );
  }
}

function readText(path: string): string {
  return new TextDecoder().decode(readBytes(path, "Input script"));
}

function machineConfig(run: HostRun, settings: RunSettings, drafts: readonly DomainDraft[]): BootConfig {
  const guests = drafts.reduce((sum, draft) => sum + (draft.memoryMiB ?? DEFAULT_MEMORY), 0);
  const wanted =
    settings.machineMemory ?? run.config.machineMemory ?? Math.min(4096, Math.max(256, guests + SPARE_MEMORY));
  const { pools, governor, threadsPerCore, coresPerSocket, socketsPerNode, frequencies, idleStates } = run.config;
  const { scheduler, pcpus, cpuMhz, seed } = settings;
  return {
    ...{ memoryMiB: wanted, pcpus, cpuMhz, seed, scheduler },
    ...(pools === undefined ? {} : { pools }),
    ...(governor === undefined ? {} : { governor }),
    ...(threadsPerCore === undefined ? {} : { threadsPerCore }),
    ...(coresPerSocket === undefined ? {} : { coresPerSocket }),
    ...(socketsPerNode === undefined ? {} : { socketsPerNode }),
    ...(frequencies === undefined ? {} : { frequencies }),
    ...(idleStates === undefined ? {} : { idleStates }),
  };
}

function domainConfig(draft: DomainDraft, files: Files, sources: DraftSources): DomainConfig {
  const { onPoweroff, onReboot, onCrash, uuid, cpus, softCpus, pool } = draft;
  return {
    name: draft.name!,
    type: guestType(draft, files, sources.hypervisor),
    kernel: files.kernel,
    kernelName: draft.kernel!,
    ramdisk: files.ramdisk,
    extra: commandLineOf(draft),
    memoryMiB: draft.memoryMiB ?? DEFAULT_MEMORY,
    vcpus: draft.vcpus ?? 1,
    devices: [{ type: "console", spec: "" }, ...draft.devices.map(({ type, spec }) => ({ type, spec }))],
    schedulerParams: schedulerValues(draft, sources),
    ...(uuid === null ? {} : { uuid }),
    ...(cpus === null ? {} : { cpus }),
    ...(softCpus === null ? {} : { softCpus }),
    ...(pool === null ? {} : { pool }),
    ...(onPoweroff === null ? {} : { onPoweroff }),
    ...(onReboot === null ? {} : { onReboot }),
    ...(onCrash === null ? {} : { onCrash }),
  };
}

/** The type that was asked for, or the kernel's; ConfigError where no plugin provides it. */
function guestType(draft: DomainDraft, files: Files, hypervisor: Hypervisor): string {
  const type = draft.type ?? guessType(files.kernel);
  const known = providers(hypervisor.hooks.arch).map((p) => p.key);
  if (known.includes(type)) return type;
  const from = draft.type === null ? `Kernel ${draft.kernel} is for guests of type '${type}'` : `Guest type '${type}'`;
  throw new ConfigError(`${from}: no plugin provides that type; there are: ${known.join(", ")}.`);
}

/** Says how the run ended, and answers the exit code. */
function report(
  run: HostRun,
  settings: RunSettings,
  results: readonly DomainResult[],
  end: RunEnd | "stopped",
  consoles: Consoles,
  note: (text: string) => void,
): number {
  const now = run.hypervisor.machine.now;
  consoles.finish();
  const running = results.filter((r) => r.outcome === "running").map((r) => r.name);
  if (end === "limit")
    note(`stopped at the limit of ${formatDuration(settings.maxTime ?? now)} of virtual time (--max-time)`);
  if (end === "timeout") note(`stopped at the limit of ${(settings.timeout ?? 0) / 1000} s of wall time (--timeout)`);
  if (end === "stopped" && !run.outputLost.aborted) note("interrupted");
  if (end === "idle")
    note(
      `${running.join(", ")} ${running.length === 1 ? "waits" : "wait"} for an event that can never come: every vCPU is blocked, nothing is pending and input is at its end`,
    );
  const pending = consoles.script?.pending ?? null;
  if (pending !== null) note(`${settings.input}:${pending.line}: the guest never printed '${printable(pending.text)}'`);
  const crashed = results.some((r) => r.outcome === "crash" || r.outcome === "watchdog");
  const code = crashed ? EXIT.crashed : end === "stopped" ? EXIT.interrupted : end === "done" ? EXIT.ok : EXIT.limit;
  if (settings.json)
    run.streams.stdout.write(`${JSON.stringify(jsonResult(run, settings, results, end, code), null, 2)}\n`);
  return code;
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** What --json prints: stable names, times in nanoseconds. */
function jsonResult(
  run: HostRun,
  settings: RunSettings,
  results: readonly DomainResult[],
  end: RunEnd | "stopped",
  exitCode: number,
): unknown {
  const { machine, scheduling } = run.hypervisor;
  return {
    exitCode,
    end,
    virtualNs: machine.now,
    scheduler: settings.scheduler,
    pcpus: machine.config.pcpus,
    cpuMhz: machine.config.cpuMhz,
    seed: machine.config.seed,
    faults: scheduling.pools.flatMap((pool) =>
      pool.faults.map(({ plugin, kind, reason, place, time }) => ({
        plugin,
        kind,
        reason,
        place: place ?? null,
        virtualNs: time,
      })),
    ),
    domains: results.map((r) => ({
      name: r.name,
      id: r.id,
      outcome: r.outcome,
      message: r.message,
      restarts: r.restarts,
      cpuNs: r.times.running,
      runnableNs: r.times.runnable,
      blockedNs: r.times.blocked,
      offlineNs: r.times.offline,
    })),
  };
}
