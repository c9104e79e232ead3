/** The governor `performance`: always the highest rate; idle states by forecast. */
import { definePlugin, type Governor, type GovernorHost, type Nanoseconds } from "hookvisor";
import { highestRate, MenuIdle } from "../lib-governor/index.ts";

const NAME = "governor-performance";

class Performance implements Governor {
  readonly #host: GovernorHost;
  readonly #idle: MenuIdle;

  constructor(host: GovernorHost) {
    this.#host = host;
    this.#idle = new MenuIdle(host);
  }

  busy(now: Nanoseconds): void {
    this.#idle.busy(now);
    this.#host.setFrequency(highestRate(this.#host.frequencies));
  }

  idle(now: Nanoseconds, expected: Nanoseconds): number {
    return this.#idle.idle(now, expected);
  }

  dump(): string {
    return this.#idle.dump();
  }
}

export default definePlugin({
  name: NAME,
  api: "^1.0.0",
  description: "pCPUs at their highest rate",
  apply({ hooks }) {
    hooks.governor.for("performance").tap(NAME, (host) => new Performance(host));
  },
});
