/** Durations and counts as people write them on the command line, and back. Errors are sentences for an option's value. */

const NS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  min: 60e9,
  h: 3600e9,
  "": 1e9,
};

/** `64s`, `500ms`, `1.5s`; without a unit seconds. Nanoseconds, or null: no duration above zero. */
export function parseDuration(text: string): number | null {
  const match = /^([0-9]+(?:\.[0-9]+)?)\s*(ns|us|ms|s|min|m|h|)$/.exec(text.trim());
  if (match === null) return null;
  const value = Math.round(Number(match[1]) * NS[match[2]!]!);
  return Number.isSafeInteger(value) && value > 0 ? value : null;
}

/** A duration for people: the largest unit in which it is at least 1, three decimals at most. */
export function formatDuration(ns: number): string {
  for (const [unit, size] of [
    ["s", 1e9],
    ["ms", 1e6],
    ["us", 1e3],
  ] as const)
    if (ns >= size) return `${Number((ns / size).toFixed(3))} ${unit}`;
  return `${ns} ns`;
}

/** The words that differ least from what was typed, when that is little enough for a slip of the fingers; at most three. */
export function nearest(typed: string, words: readonly string[]): readonly string[] {
  const most = typed.length < 3 ? 1 : typed.length < 7 ? 2 : 3;
  const ranked = words
    .map((word) => ({ word, edits: editsBetween(typed.toLowerCase(), word.toLowerCase()) }))
    .filter(({ word, edits }) => edits <= most && edits < word.length);
  const least = Math.min(...ranked.map(({ edits }) => edits));
  return ranked
    .filter(({ edits }) => edits === least)
    .map(({ word }) => word)
    .slice(0, 3);
}

/** Letters to insert, remove, replace or swap with a neighbour, to make `b` of `a`. */
function editsBetween(a: string, b: string): number {
  let before: readonly number[] = [];
  let row: readonly number[] = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? before[j - 2]! + 1 : Infinity;
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1, swapped));
    }
    before = row;
    row = next;
  }
  return row[b.length]!;
}

/** A text in lines of at most so many characters, cut between words; a longer word has a line of its own. */
export function wrap(text: string, width: number): readonly string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" "))
    if (line === "") line = word;
    else if (line.length + 1 + word.length <= width) line += ` ${word}`;
    else {
      lines.push(line);
      line = word;
    }
  return [...lines, line];
}

/** Rows with cells that are wrapped, the widest columns first, so that all columns fit in so many characters; no word is cut. */
function fitted(rows: readonly (readonly string[])[], width: number): readonly (readonly string[])[] {
  const columns = rows[0]?.length ?? 0;
  const widths = Array.from({ length: columns }, (_, i) => Math.max(...rows.map((row) => (row[i] ?? "").length)));
  const words = widths.map((_, i) =>
    Math.max(...rows.flatMap((row) => (row[i] ?? "").split(" ").map((w) => w.length))),
  );
  for (let over = widths.reduce((a, b) => a + b + 2, -2) - width; over > 0; over--) {
    const widest = Math.max(...widths.filter((w, i) => w > words[i]!));
    const column = widths.findIndex((w, i) => w === widest && w > words[i]!);
    if (column < 0) break;
    widths[column] = widest - 1;
  }
  return rows.flatMap((row) => {
    const cells = row.map((cell, i) => wrap(cell, widths[i]!));
    const height = Math.max(...cells.map((lines) => lines.length));
    return Array.from({ length: height }, (_, line) => cells.map((lines) => lines[line] ?? ""));
  });
}

/** Rows of text in columns; the first row is the head; numbers to the right; no wider than `width` characters where that can be. */
export function table(all: readonly (readonly string[])[], width = Infinity): string {
  const rows = Number.isFinite(width) ? fitted(all, width) : all;
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  const right = widths.map((_, column) =>
    rows.slice(1).every((row) => /^[-+]?[0-9.]+( ?[a-zµ%]+)?$/.test(row[column] ?? "")),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) => (right[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
        .join("  ")
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join("");
}
