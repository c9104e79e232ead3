/** A governor that keeps one rate, with idle states by forecast: what `performance` and `powersave` are. */
import type { Governor, GovernorHost, Nanoseconds } from "hookvisor";
import { MenuIdle } from "./idle.ts";

export class FixedRate implements Governor {
  readonly #host: GovernorHost;
  readonly #idle: MenuIdle;
  readonly #mhz: number;

  /** `choose` picks the rate out of those that there are. */
  constructor(host: GovernorHost, choose: (frequencies: readonly number[]) => number) {
    this.#host = host;
    this.#idle = new MenuIdle(host);
    this.#mhz = choose(host.frequencies);
  }

  busy(now: Nanoseconds): void {
    this.#idle.busy(now);
    this.#host.setFrequency(this.#mhz);
  }

  idle(now: Nanoseconds, expected: Nanoseconds): number {
    return this.#idle.idle(now, expected);
  }

  dump(): string {
    return this.#idle.dump();
  }
}
