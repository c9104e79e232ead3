/**
 * A person (or a pipe) at the consoles: raw mode, Ctrl-], Ctrl-C, lines with `NAME:` where several domains share the terminal.
 *
 * Invariants: the terminal is given back as it was, however the run ends; input reaches a guest by `inject`, at the virtual time at which
 * it arrives.
 */
import type { HostRun, HostStreams } from "../../core/node/host-plugin.ts";
import type { Consoles } from "./run.ts";

/** Ctrl-]. */
const DETACH = 0x1d;

export class Attachment {
  readonly #streams: HostStreams;
  readonly #outputLost: AbortSignal;
  readonly #consoles: Consoles;
  readonly #names: readonly string[];
  readonly #note: (text: string) => void;
  #attached = false;
  #detached = false;
  #ended = true;
  #raw = false;
  #line = "";
  #wake: (() => void)[] = [];
  interrupted = false;
  readonly #onData = (chunk: Buffer | string): void =>
    this.#data(typeof chunk === "string" ? Buffer.from(chunk) : chunk);
  readonly #onEnd = (): void => this.#end();
  readonly #onSignal = (): void => this.#interrupt();

  /** When nobody takes the output any more the run ends, as with Ctrl-C. */
  constructor(
    { streams, outputLost }: Pick<HostRun, "streams" | "outputLost">,
    consoles: Consoles,
    names: readonly string[],
    note: (text: string) => void,
  ) {
    this.#streams = streams;
    this.#outputLost = outputLost;
    this.#consoles = consoles;
    this.#names = names;
    this.#note = note;
    process.once("SIGINT", this.#onSignal);
    process.once("SIGTERM", this.#onSignal);
    outputLost.addEventListener("abort", this.#onSignal);
  }

  /** Somebody may type at a terminal: the run follows the wall clock. */
  get live(): boolean {
    return this.#attached && this.#streams.stdin.isTTY === true;
  }

  /** Connects stdin. */
  attach(): void {
    const { stdin } = this.#streams;
    this.#attached = true;
    this.#ended = false;
    stdin.on("data", this.#onData);
    stdin.once("end", this.#onEnd);
    stdin.once("close", this.#onEnd);
    stdin.once("error", this.#onEnd);
    if (stdin.isTTY === true && this.#names.length === 1) {
      this.#setRaw(true);
      this.#note(`attached to ${this.#names[0]}; Ctrl-] detaches`);
    }
    stdin.resume();
  }

  /** Resolves at the next input; null: it is at its end. */
  nextInput(): Promise<void> | null {
    if (!this.#attached || this.#ended) return null;
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  /** Gives the terminal back and ends with the signals. */
  release(): void {
    const { stdin } = this.#streams;
    process.removeListener("SIGINT", this.#onSignal);
    process.removeListener("SIGTERM", this.#onSignal);
    this.#outputLost.removeEventListener("abort", this.#onSignal);
    if (!this.#attached) return;
    this.#attached = false;
    stdin.removeListener("data", this.#onData);
    for (const event of ["end", "close", "error"]) stdin.removeListener(event, this.#onEnd);
    this.#setRaw(false);
    stdin.pause();
    // A pipe that nobody closes must not keep the process alive.
    if (stdin.isTTY !== true) (stdin as { unref?(): void }).unref?.();
  }

  #setRaw(raw: boolean): void {
    if (this.#raw === raw) return;
    this.#raw = raw;
    this.#streams.stdin.setRawMode?.(raw);
  }

  #data(chunk: Buffer): void {
    if (this.#names.length > 1) this.#lines(chunk);
    else if (this.#detached) this.#reattach();
    else {
      const at = this.#raw ? chunk.indexOf(DETACH) : -1;
      const bytes = at < 0 ? chunk : chunk.subarray(0, at);
      if (bytes.length > 0) this.#consoles.type(this.#names[0]!, bytes);
      if (at >= 0) this.#detach();
    }
    this.#notify();
  }

  /** `NAME: text` types a line at that domain. */
  #lines(chunk: Buffer): void {
    this.#line += chunk.toString("latin1");
    for (let end = this.#line.indexOf("\n"); end >= 0; end = this.#line.indexOf("\n")) {
      const line = this.#line.slice(0, end + 1);
      this.#line = this.#line.slice(end + 1);
      const match = /^([^\s:]+):[ \t]?(.*\n)$/s.exec(line);
      const name = match?.[1];
      if (name !== undefined && this.#names.includes(name)) this.#consoles.type(name, match![2]!);
      else if (line.trim() !== "")
        this.#note(
          `a line of input begins with the name of a domain and a colon (${this.#names.join(", ")}); this one is ignored`,
        );
    }
  }

  #detach(): void {
    this.#detached = true;
    this.#consoles.shown = false;
    this.#setRaw(false);
    this.#streams.stderr.write("\n");
    this.#note(`detached from ${this.#names[0]}, which runs on; Enter attaches again, Ctrl-C ends it`);
  }

  #reattach(): void {
    this.#detached = false;
    this.#consoles.shown = true;
    this.#setRaw(true);
    this.#note(`attached to ${this.#names[0]}; Ctrl-] detaches`);
  }

  #end(): void {
    this.#ended = true;
    if (this.#names.length > 1 && this.#line !== "") this.#lines(Buffer.from("\n"));
    this.#notify();
  }

  #interrupt(): void {
    this.interrupted = true;
    this.#notify();
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}
