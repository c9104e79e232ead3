/**
 * The console of a real guest in an experiment: its output drives the script, what the script sends is its input.
 *
 * Invariant: steps depend on the guest's output alone, so that equal runs get equal input at equal virtual times.
 */
import type { Terminal } from "hookvisor";
import type { ScriptStep } from "../experiment/model.ts";

/** Output that is kept for `expect`, in bytes. */
const KEPT = 1 << 16;

export class ScriptedConsole implements Terminal {
  readonly #steps: readonly ScriptStep[];
  readonly #inject: (task: () => void) => void;
  #at = 0;
  #output = "";
  #input: Uint8Array = new Uint8Array(0);
  #listener: (() => void) | null = null;

  /** `inject` runs a task at the present virtual time, between steps of the machine. */
  constructor(steps: readonly ScriptStep[], inject: (task: () => void) => void) {
    this.#steps = steps;
    this.#inject = inject;
  }

  write(bytes: Uint8Array): void {
    if (this.#at >= this.#steps.length) return;
    this.#output = (this.#output + Buffer.from(bytes).toString("latin1")).slice(-KEPT);
    this.advance();
  }

  /** Takes the steps that can be taken. */
  advance(): void {
    for (; this.#at < this.#steps.length; this.#at++) {
      const step = this.#steps[this.#at]!;
      if ("expect" in step) {
        const wanted = Buffer.from(step.expect, "utf8").toString("latin1");
        const found = this.#output.indexOf(wanted);
        if (found < 0) return;
        this.#output = this.#output.slice(found + wanted.length);
      } else this.#inject(() => this.#type(Buffer.from(step.send, "utf8")));
    }
  }

  #type(bytes: Uint8Array): void {
    const next = new Uint8Array(this.#input.length + bytes.length);
    next.set(this.#input);
    next.set(bytes, this.#input.length);
    this.#input = next;
    this.#listener?.();
  }

  read(max: number): Uint8Array {
    const taken = this.#input.subarray(0, Math.max(0, max));
    this.#input = this.#input.subarray(taken.length);
    return taken;
  }

  onInput(waiting: () => void): void {
    this.#listener = waiting;
    if (this.#input.length > 0) waiting();
  }
}
