/**
 * Scheduler parameters as experiments write them: a duration such as "10ms" where the scheduler's own table has a time, and what belongs to vCPUs
 * given for a whole domain. What is wrong otherwise is the core's to say: it checks every value against the table.
 */
import type { ParamSpec, ParamSpecs, ParamValue, ParamValues, Scheduler } from "hookvisor";
import type { LooseParams } from "../experiment/model.ts";
import { parseTime } from "../experiment/values.ts";

const SCALES: readonly (readonly [RegExp, number])[] = [
  [/_ns$/, 1],
  [/_us$/, 1e3],
  [/_ms$/, 1e6],
  [/_s$/, 1e9],
];

function convert(name: string, type: ParamSpec["type"], value: unknown): unknown {
  if (typeof value !== "string" || type === "string") return value;
  const ns = parseTime(value);
  if (ns === null) return value;
  if (type === "nanoseconds") return ns;
  const scale = SCALES.find(([ending]) => ending.test(name))?.[1];
  return type === "integer" && scale !== undefined ? ns / scale : value;
}

/** Values in the units of the table. Unknown names pass as they are. */
export function toUnits(values: LooseParams, specs: ParamSpecs): ParamValues {
  const found: Record<string, ParamValue> = {};
  for (const [name, value] of Object.entries(values)) {
    const spec = Object.hasOwn(specs, name) ? specs[name] : undefined;
    if (spec?.type === "table" && Array.isArray(value))
      found[name] = value.map((row) =>
        Object.fromEntries(
          Object.entries(row).map(([column, cell]) => [
            column,
            convert(column, spec.columns?.[column]?.type ?? "string", cell) as number,
          ]),
        ),
      );
    else found[name] = spec === undefined ? value : (convert(name, spec.type, value) as ParamValue);
  }
  return found;
}

/** A domain's values by where they belong. */
export interface SplitValues {
  readonly domain: ParamValues;
  /** What the scheduler has for units only. */
  readonly unit: ParamValues;
  /** What it does not have, and is left out. */
  readonly dropped: ParamValues;
}

/** Splits a domain's values. `drop`: what the scheduler does not have is left out; else it is the domain's, for the core to refuse. */
export function splitValues(values: LooseParams, scheduler: Scheduler, drop: boolean): SplitValues {
  const { domain = {}, unit = {} } = scheduler.params ?? {};
  const found: Record<keyof SplitValues, Record<string, ParamValue>> = { domain: {}, unit: {}, dropped: {} };
  for (const [name, value] of Object.entries(values)) {
    const ofDomain = Object.hasOwn(domain, name);
    const ofUnit = !ofDomain && Object.hasOwn(unit, name);
    found[ofUnit ? "unit" : ofDomain || !drop ? "domain" : "dropped"][name] = value;
  }
  return { domain: toUnits(found.domain, domain), unit: toUnits(found.unit, unit), dropped: found.dropped };
}

/** The values that a table has. */
export function onlyKnown(values: LooseParams, specs: ParamSpecs): LooseParams {
  return Object.fromEntries(Object.entries(values).filter(([name]) => Object.hasOwn(specs, name)));
}
