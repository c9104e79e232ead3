/** The governor `powersave`: always the lowest rate; idle states by forecast. */
import { definePlugin, type Governor, type GovernorHost, type Nanoseconds } from "hookvisor";
import { lowestRate, MenuIdle } from "../lib-governor/index.ts";

const NAME = "governor-powersave";

class Powersave implements Governor {
  readonly #host: GovernorHost;
  readonly #idle: MenuIdle;

  constructor(host: GovernorHost) {
    this.#host = host;
    this.#idle = new MenuIdle(host);
  }

  busy(now: Nanoseconds): void {
    this.#idle.busy(now);
    this.#host.setFrequency(lowestRate(this.#host.frequencies));
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
  description: "pCPUs at their lowest rate",
  apply({ hooks }) {
    hooks.governor.for("powersave").tap(NAME, (host) => new Powersave(host));
  },
});
