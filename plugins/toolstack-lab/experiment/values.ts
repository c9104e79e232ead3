/** Values as people write them in experiments: durations, sets of pCPUs; and back for messages and tables. */

const NS: Readonly<Record<string, number>> = { ns: 1, us: 1e3, ms: 1e6, s: 1e9, min: 60e9, m: 60e9, h: 3600e9 };

/** `10s`, `1.5ms`, `50us`, `0`: ns; null: no duration. */
export function parseTime(value: unknown): number | null {
  if (value === 0) return 0;
  if (typeof value !== "string") return null;
  const match = /^([0-9]+(?:\.[0-9]+)?)\s*(ns|us|ms|s|min|m|h)$/.exec(value.trim());
  if (match === null) return value.trim() === "0" ? 0 : null;
  const ns = Math.round(Number(match[1]) * NS[match[2]!]!);
  return Number.isSafeInteger(ns) ? ns : null;
}

/** ns for people: the largest unit in which it is at least 1. */
export function formatTime(ns: number): string {
  const size = Math.abs(ns);
  for (const [unit, scale] of [
    ["s", 1e9],
    ["ms", 1e6],
    ["us", 1e3],
  ] as const)
    if (size >= scale) return `${Number((ns / scale).toFixed(3))}${unit}`;
  return `${Number(ns.toFixed(3))}ns`;
}

/** `0-3,5,^2`, a number, a list of these: rising numbers; null: that is no set of pCPUs. "all": every one up to `count`. */
export function parseCpuSet(value: unknown, count: number): readonly number[] | null {
  const parts: string[] = [];
  for (const one of Array.isArray(value) ? value : [value]) {
    if (typeof one === "number" && Number.isInteger(one) && one >= 0) parts.push(String(one));
    else if (typeof one === "string") parts.push(...one.split(",").map((part) => part.trim()));
    else return null;
  }
  const cpus = new Set<number>();
  for (const part of parts) {
    if (part === "all") {
      for (let cpu = 0; cpu < count; cpu++) cpus.add(cpu);
      continue;
    }
    const match = /^(\^?)(\d{1,4})(?:-(\d{1,4}))?$/.exec(part);
    if (match === null) return null;
    const from = Number(match[2]);
    const to = Number(match[3] ?? from);
    if (to < from) return null;
    for (let cpu = from; cpu <= to; cpu++)
      if (match[1] === "^") cpus.delete(cpu);
      else cpus.add(cpu);
  }
  return [...cpus].sort((a, b) => a - b);
}

/** Rising numbers as `0-3,5`. */
export function formatCpuSet(cpus: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < cpus.length; ) {
    let j = i;
    while (cpus[j + 1] === cpus[j]! + 1) j++;
    parts.push(i === j ? `${cpus[i]}` : `${cpus[i]}-${cpus[j]}`);
    i = j + 1;
  }
  return parts.join(",");
}

/** A value cut to a length fit for a message. */
export function showValue(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
