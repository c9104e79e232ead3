/**
 * Scheduler parameters: checks values against a scheduler's own table before it sees them. ConfigError in plain words.
 */
import { ConfigError } from "../errors.ts";
import type { ColumnSpec, ParamSpec, ParamSpecs, ParamValue, ParamValues } from "./scheduler.ts";

/** Checks `values` against the table; `where` opens the sentence ("Scheduler 'credit'"), `kind` is domain, unit or pool. */
export function checkParams(where: string, kind: string, specs: ParamSpecs, values: ParamValues): void {
  for (const [name, value] of Object.entries(values)) {
    const spec = Object.hasOwn(specs, name) ? specs[name] : undefined;
    if (spec === undefined)
      throw new ConfigError(
        `${where} has no ${kind} parameter '${name}'; ${Object.keys(specs).length === 0 ? "it has none" : `it has ${Object.keys(specs).join(", ")}`}.`,
      );
    const what = `${where}: ${kind} parameter '${name}'`;
    if (spec.type === "table") checkTable(what, spec, value);
    else if (!fits(spec, value)) throw new ConfigError(`${what} must be ${wanted(spec)}, got ${show(value)}.`);
  }
}

function checkTable(what: string, spec: ParamSpec, value: ParamValue): void {
  const { min = 0, max = Infinity, columns = {} } = spec;
  if (!Array.isArray(value)) throw new ConfigError(`${what} must be a list of rows, got ${show(value)}.`);
  if (value.length < min || value.length > max)
    throw new ConfigError(`${what} must have ${min} to ${max} rows, got ${value.length}.`);
  for (const [i, row] of value.entries()) {
    const here = `${what}, row ${i + 1}`;
    if (typeof row !== "object" || row === null)
      throw new ConfigError(`${here} must have ${Object.keys(columns).join(", ")}, got ${show(row)}.`);
    for (const name of Object.keys(row))
      if (!Object.hasOwn(columns, name))
        throw new ConfigError(`${here} has no column '${name}'; there are ${Object.keys(columns).join(", ")}.`);
    for (const [name, column] of Object.entries(columns)) {
      const cell = (row as ParamValues)[name];
      if (cell === undefined) {
        if (column.default === undefined) throw new ConfigError(`${here} lacks '${name}' (${column.description}).`);
      } else if (!fits(column, cell))
        throw new ConfigError(`${here}: '${name}' must be ${wanted(column)}, got ${show(cell)}.`);
    }
  }
}

type Bounded = Pick<ColumnSpec, "min" | "max"> & { readonly type: string };

function fits(spec: Bounded, value: unknown): boolean {
  const { min = -Infinity, max = Infinity } = spec;
  switch (spec.type) {
    case "boolean":
      return typeof value === "boolean";
    case "string":
      return typeof value === "string" && value.length >= min && value.length <= max;
    default:
      return typeof value === "number" && Number.isSafeInteger(value) && value >= min && value <= max;
  }
}

function wanted(spec: Bounded): string {
  const { min, max } = spec;
  const bounds = min === undefined && max === undefined ? "" : ` from ${min ?? "-inf"} to ${max ?? "inf"}`;
  switch (spec.type) {
    case "boolean":
      return "true or false";
    case "string":
      return `a text${bounds === "" ? "" : ` of a length${bounds}`}`;
    case "nanoseconds":
      return `a whole number of nanoseconds${bounds}`;
    default:
      return `a whole number${bounds === "" ? "" : bounds}`;
  }
}

function show(value: unknown): string {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
