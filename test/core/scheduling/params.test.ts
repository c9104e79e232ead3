/** The example of parameters in core/scheduling/scheduler.ts works as it stands, and a reading may leave names undefined. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Domain } from "../../../core/domain/domain.ts";
import { FifoScheduler } from "../../../core/scheduling/fifo.ts";
import type { ParamValues, Scheduler, SchedulingUnit } from "../../../core/scheduling/scheduler.ts";
import { hog, Load } from "../../support/load.ts";

// biome-ignore format: the example's own lines
class Weights extends FifoScheduler implements Scheduler {
  #weights = new WeakMap<Domain, number>();
  // example
  readonly params = {
    domain: { weight: { description: "share of the CPU", type: "integer", min: 1, max: 1000, default: 100 } },
  } as const;
  adjust(target: Domain | SchedulingUnit | null, { weight }: ParamValues): number {
    // Only names of `params` come, for their kind of target, within their bounds; undefined: it stays as it is.
    if (weight !== undefined) this.#weights.set(target as Domain, Number(weight));
    return 0;
  }
  read(target: Domain | SchedulingUnit | null) {
    // It is asked about units (they have `vcpus` and a `domain`) and the pool (null) too, which have no parameters here.
    if (target === null || "domain" in target) return {};
    return { weight: this.#weights.get(target) ?? this.params.domain.weight.default };
  }
  // end
}

const lines = (text: string, strip: RegExp): string[] =>
  text
    .split("\n")
    .map((line) => line.replace(strip, ""))
    .filter((line) => line !== "");

test("the example is this one", () => {
  const source = readFileSync(join(import.meta.dirname, "../../../core/scheduling/scheduler.ts"), "utf8");
  const shown = /```ts\n([\s\S]*?) {3}\* ```/.exec(source)![1]!;
  const own = / {2}\/\/ example\n([\s\S]*?) {2}\/\/ end/.exec(readFileSync(import.meta.filename, "utf8"))![1]!;
  expect(lines(shown, /^ {3}\* /)).toEqual(lines(own, /^ {2}/));
});

test("what is set is read back; units and the pool have none", () => {
  const load = new Load((host) => new Weights(host), { pcpus: 1 });
  const domain = load.domain("a", [hog], { weight: 7 });
  const other = load.domain("b", [hog]);
  expect([domain, other, domain.vcpus[0]!.unit, null].map((one) => load.pool.read(one))).toEqual([
    { weight: 7 },
    { weight: 100 },
    {},
    {},
  ]);
  expect(() => load.scheduling.adjust(load.pool, domain, { weight: 0 })).toThrow(/weight/);
  expect(load.pool.read(domain)).toEqual({ weight: 7 });
});

test("names that are undefined are absent", () => {
  class Short extends FifoScheduler {
    readonly params = { domain: { weight: { description: "share", type: "integer", default: 5 } } } as const;
    adjust(): number {
      return 0;
    }
    read(target: Domain | SchedulingUnit | null) {
      return target === null ? {} : { weight: "domain" in target ? undefined : 5 };
    }
  }
  const load = new Load((host): Scheduler => new Short(host), { pcpus: 1 });
  const domain = load.domain("a", [hog]);
  expect(load.pool.read(domain)).toEqual({ weight: 5 });
  expect(Object.keys(load.pool.read(domain.vcpus[0]!.unit))).toEqual([]);
  expect(load.pool.faults).toEqual([]);
});
