/** Values for parameters: within their bounds and out of them, from a few small numbers. */
import type { ColumnSpec, ParamRow, ParamScalar, ParamSpec, ParamValue } from "../../../core/scheduling/scheduler.ts";

/** What rows of a table may name. */
export interface Names {
  readonly texts: readonly string[];
  rows?(): readonly (readonly ParamRow[])[];
}

/** A number between bounds: 0 the lower, 1 the upper, 2 and 3 near `middle`, else anything, small ones as likely as large. */
function number(
  spec: { readonly min?: number; readonly max?: number },
  middle: number,
  how: number,
  x: number,
): number {
  const min = spec.min ?? 0;
  const max = spec.max ?? Math.max(min, 1e10);
  switch (how % 6) {
    case 0:
      return min;
    case 1:
      return max;
    case 2:
      return Math.min(max, Math.max(min, middle));
    case 3:
      return Math.min(max, Math.max(min, Math.floor((middle * (x + 1)) / 512)));
    default:
      return Math.min(max, min + Math.floor((max - min + 1) ** ((x + 1) / 1024)) - 1);
  }
}

function scalar(spec: ColumnSpec | ParamSpec, how: number, x: number, names: Names): ParamScalar {
  switch (spec.type) {
    case "boolean":
      return x % 2 === 1;
    case "string": {
      const text = names.texts[x % Math.max(1, names.texts.length)] ?? "";
      return text.padEnd(spec.min ?? 0, "-").slice(0, spec.max);
    }
    default:
      return number(spec, typeof spec.default === "number" ? spec.default : 10e6, how, x);
  }
}

/** Times in tables are 0.1 ms to a second, but for one in sixteen: shorter windows only cost the kit's time. */
function cell(column: ColumnSpec, how: number, x: number, names: Names): ParamScalar {
  const { min = 0, max = 1e9 } = column;
  return column.type === "nanoseconds" && x % 16 !== 0
    ? number({ min: Math.max(min, 100_000), max: Math.min(max, 1e9) }, 1e6, 4, x)
    : scalar(column, x % 16 === 0 ? 0 : 4 + (how % 2), x % 700, names);
}

/** A value within the bounds of a parameter. */
export function within(spec: ParamSpec, how: number, x: number, names: Names): ParamValue {
  if (spec.type !== "table") return scalar(spec, how, x, names);
  const given = names.rows?.() ?? [];
  if (given.length > 0 && how % 2 === 0) return given[x % given.length]!;
  const size = Math.min(spec.max ?? 4, Math.max(spec.min ?? 0, x % 5));
  return Array.from({ length: size }, (_, row) =>
    Object.fromEntries(
      Object.entries(spec.columns ?? {}).map(([name, column], i) => [
        name,
        cell(column, how + row + i, (x * 7 + row * 13 + i * 29) % 1024, names),
      ]),
    ),
  );
}

/** Values that a parameter can never have. */
export function beyond(spec: ParamSpec): readonly unknown[] {
  const wrong: unknown[] = [null, undefined, {}, () => 0, Number.NaN, Infinity];
  if (spec.type === "boolean") return [...wrong, 0, 1, "true"];
  if (spec.type === "table") {
    const columns = Object.keys(spec.columns ?? {});
    return [...wrong, 1, "rows", [null], [1], [{ "no such column": 1 }], ...(columns.length > 0 ? [[{}]] : [])];
  }
  if (spec.type === "string") {
    if (spec.max !== undefined) wrong.push("x".repeat(spec.max + 1));
    return [...wrong, 1, true];
  }
  wrong.push(true, "1", 0.5, 2 ** 53);
  if (spec.min !== undefined) wrong.push(spec.min - 1);
  if (spec.max !== undefined) wrong.push(spec.max + 1);
  return wrong;
}
