/**
 * Consoles of the domains that a command runs: where their output goes, where their input comes from.
 *
 * One domain's console is the terminal itself, byte for byte. Several share it by lines with `NAME: ` in front: a line is shown when it
 * is complete, or, so that a prompt shows, when nothing has been added to it for a moment.
 * Invariants: what a guest sees does not depend on how its output is shown; input waits until the guest takes it.
 */
import type { Terminal } from "hookvisor";

/** Most input that waits for a guest, in bytes; what is typed beyond it is dropped (and said so). */
const MOST_INPUT = 1 << 20;
/** How long an incomplete line waits for its end, in host milliseconds. */
const PARTIAL_MS = 50;

/** One domain's console. */
export class Console implements Terminal {
  readonly name: string;
  /** Gets the guest's output. */
  onOutput: (bytes: Uint8Array) => void = () => {};
  #waiting: Uint8Array[] = [];
  #size = 0;
  #listener: (() => void) | null = null;

  constructor(name: string) {
    this.name = name;
  }

  write(bytes: Uint8Array): void {
    if (bytes.length > 0) this.onOutput(bytes);
  }

  /** Somebody typed: false, and nothing is taken, when too much waits already. */
  type(bytes: Uint8Array): boolean {
    if (bytes.length === 0) return true;
    if (this.#size + bytes.length > MOST_INPUT) return false;
    this.#waiting.push(bytes.slice());
    this.#size += bytes.length;
    this.#listener?.();
    return true;
  }

  read(max: number): Uint8Array {
    const first = this.#waiting[0];
    if (first === undefined || max <= 0) return new Uint8Array(0);
    const taken = first.subarray(0, max);
    if (taken.length === first.length) this.#waiting.shift();
    else this.#waiting[0] = first.subarray(taken.length);
    this.#size -= taken.length;
    return taken;
  }

  onInput(waiting: () => void): void {
    this.#listener = waiting;
    if (this.#size > 0) waiting();
  }
}

/** Shows the output of several consoles on one stream. */
export class Multiplexer {
  readonly #write: (bytes: Uint8Array | string) => void;
  readonly #width: number;
  readonly #lines = new Map<string, { text: Uint8Array[]; timer: ReturnType<typeof setTimeout> | null }>();
  /** Whose incomplete line the screen ends with. */
  #open: string | null = null;

  constructor(names: readonly string[], write: (bytes: Uint8Array | string) => void) {
    this.#write = write;
    this.#width = Math.max(...names.map((name) => name.length));
    for (const name of names) this.#lines.set(name, { text: [], timer: null });
  }

  show(name: string, bytes: Uint8Array): void {
    const line = this.#lines.get(name);
    if (line === undefined) return;
    let from = 0;
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, from)) {
      line.text.push(bytes.slice(from, end));
      this.#flush(name, true);
      from = end + 1;
    }
    if (from === bytes.length) return;
    line.text.push(bytes.slice(from));
    line.timer ??= setTimeout(() => this.#flush(name, false), PARTIAL_MS);
    line.timer.unref?.();
  }

  /** Shows what is left, and ends an incomplete line. */
  finish(): void {
    for (const [name, { text }] of this.#lines) if (text.length > 0) this.#flush(name, false);
    if (this.#open !== null) this.#write("\n");
    this.#open = null;
  }

  #flush(name: string, complete: boolean): void {
    const line = this.#lines.get(name)!;
    if (line.timer !== null) clearTimeout(line.timer);
    line.timer = null;
    const text = Buffer.concat(line.text).filter((byte) => byte !== 13);
    line.text = [];
    if (this.#open !== name) {
      if (this.#open !== null) this.#write("\n");
      this.#write(`${`${name}:`.padEnd(this.#width + 1)} `);
    }
    this.#write(text);
    if (complete) this.#write("\n");
    this.#open = complete ? null : name;
  }
}
