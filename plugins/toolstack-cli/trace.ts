/**
 * The text trace: first the run's inputs, then one line for each event of the core's tracing hooks, written as it happens.
 *
 * A line is `TIME EVENT KEY=VALUE...` with the virtual time in nanoseconds. Equal inputs give equal bytes; nothing of the host (paths
 * of files apart, as the command has them) gets in.
 */
import { createHash } from "node:crypto";
import { closeSync, openSync, writeSync } from "node:fs";
import { ConfigError, type Domain, type Hooks, type MachineConfig, type RunState, type Vcpu } from "hookvisor";

const BUFFER = 1 << 16;
const STATES: Readonly<Record<RunState, string>> = { 0: "running", 1: "runnable", 2: "blocked", 3: "offline" };

/** Writes a trace file. */
export class TraceWriter {
  readonly #fd: number;
  readonly #path: string;
  #lines: string[] = [];
  #size = 0;

  /** Opens (and empties) the file. ConfigError when that cannot be. */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#fd = openSync(path, "w");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new ConfigError(
        code === "ENOENT"
          ? `Trace ${path} cannot be written: there is no such folder.`
          : `Trace ${path} cannot be written (${code ?? String(error)}).`,
      );
    }
    this.#line("# hookvisor trace 1");
  }

  /** Records an input of the run. */
  input(what: string, value: unknown): void {
    this.#line(`# ${what} ${JSON.stringify(value)}`);
  }

  /** Records the machine: all that its run depends on. */
  machine(config: MachineConfig, scheduler: string, pools: unknown = null): void {
    this.input("machine", { ...config, scheduler, ...(pools === null ? {} : { pools }) });
  }

  /** Records a file that is an input, by its content. */
  file(what: string, name: string, bytes: Uint8Array): void {
    this.input(what, { name, bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") });
  }

  /** Records what somebody typed. */
  typed(now: number, domain: string, bytes: Uint8Array): void {
    this.#line(`${now} input domain=${domain} bytes=${Buffer.from(bytes).toString("hex")}`);
  }

  /** Taps the hooks; before boot. */
  tap(hooks: Hooks): void {
    const name = "trace-text";
    const vcpu = (v: Vcpu | null): string => (v === null ? "idle" : `d${v.domain.id}v${v.id}`);
    const line = (now: number, text: string): void => this.#line(`${now} ${text}`);
    hooks.domainCreate.tap(name, (d: Domain) => this.#line(`# domain ${d.id} ${d.name} ${d.type} ${d.uuid}`));
    hooks.contextSwitch.tap(name, (p, previous, next, now) =>
      line(now, `switch pcpu=${p.id} from=${vcpu(previous)} to=${vcpu(next)}`),
    );
    hooks.runstate.tap(name, (v, from, to, now) => line(now, `runstate ${vcpu(v)} ${STATES[from]}->${STATES[to]}`));
    hooks.hypercall.tap(name, (v, number, result, now) =>
      line(now, `hypercall ${vcpu(v)} nr=${number} result=${result}`),
    );
    hooks.eventSend.tap(name, (d, port, now) => line(now, `event d${d.id} port=${port}`));
    hooks.grantMap.tap(name, (mapper, granter, reference, status, now) =>
      line(now, `grant d${mapper.id} of=d${granter.id} ref=${reference} status=${status}`),
    );
    hooks.deviceState.tap(name, (d, device, state, now) => line(now, `device d${d.id} ${device} state=${state}`));
    hooks.trap.tap(name, (v, vector, errorCode, now) =>
      line(now, `trap ${vcpu(v)} vector=${vector} error=${errorCode}`),
    );
    hooks.domainShutdown.tap(name, (d, reason, now) => line(now, `shutdown d${d.id} reason=${reason}`));
    hooks.pluginFault.intercept({
      name,
      call: (fault) =>
        this.#line(`# fault ${JSON.stringify({ plugin: fault.plugin, kind: fault.kind, reason: fault.reason })}`),
    });
  }

  #line(text: string): void {
    this.#lines.push(text, "\n");
    this.#size += text.length + 1;
    if (this.#size >= BUFFER) this.#flush();
  }

  #flush(): void {
    const bytes = Buffer.from(this.#lines.join(""));
    this.#lines = [];
    this.#size = 0;
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      throw new ConfigError(
        `Trace ${this.#path} cannot be written (${(error as NodeJS.ErrnoException).code ?? String(error)}).`,
      );
    }
  }

  close(): void {
    this.#flush();
    closeSync(this.#fd);
  }
}
