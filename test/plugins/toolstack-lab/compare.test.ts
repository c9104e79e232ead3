/** Comparisons: pairs, intervals, verdicts, thresholds. */
import { describe, expect, test } from "vitest";
import { bootstrap, compare, parseThreshold, type Side } from "../../../plugins/toolstack-lab/compare.ts";
import type { ScalarValue } from "../../../plugins/toolstack-lab/scalars.ts";

function side(
  name: string,
  values: Readonly<Record<string, readonly (number | null)[]>>,
  seeds?: readonly number[],
): Side {
  const length = Object.values(values)[0]!.length;
  const scalars = (i: number): ScalarValue[] =>
    Object.entries(values).map(([key, all]) => ({
      name: key,
      title: key,
      unit: "ns",
      better: key === "good" ? "more" : key === "neither" ? null : "less",
      value: all[i]!,
    }));
  return { name, runs: new Map(Array.from({ length }, (_, i) => [seeds?.[i] ?? i + 1, scalars(i)])) };
}

test("the interval of a mean covers what theory says, and is the same each time", () => {
  // 100 values of mean 50 and standard deviation 28.9: 1.96 * 28.9 / 10 = 5.66 either way.
  const values = Float64Array.from({ length: 100 }, (_, i) => i + 0.5);
  const [low, high] = bootstrap(values, 1);
  expect(low).toBeGreaterThan(50 - 6.2);
  expect(low).toBeLessThan(50 - 5.1);
  expect(high).toBeGreaterThan(50 + 5.1);
  expect(high).toBeLessThan(50 + 6.2);
  expect(bootstrap(values, 1)).toEqual([low, high]);
  expect(bootstrap(values, 2)).not.toEqual([low, high]);
});

describe("verdicts", () => {
  const verdict = (name: string, a: readonly number[], b: readonly number[]) =>
    compare(side("a", { [name]: a }), side("b", { [name]: b })).metrics[0]!.verdict;
  test.each([
    ["wait", [10, 11, 12, 13], [20, 21, 23, 22], "worse"],
    ["wait", [20, 21, 23, 22], [10, 11, 12, 13], "better"],
    ["good", [10, 11, 12, 13], [20, 21, 23, 22], "better"],
    ["wait", [10, 20, 30, 40], [11, 19, 32, 38], "no difference"],
    ["wait", [10, 10], [10, 10], "no difference"],
    ["neither", [10, 11], [20, 21], "different"],
    ["wait", [10], [10], "no difference"],
    ["wait", [10], [20], "unclear"],
  ] as const)("%s %j to %j is %s", (name, a, b, expected) => {
    expect(verdict(name, a, b)).toBe(expected);
  });
});

test("runs are paired by seed; seeds of one side only, and figures that a run lacks, are left out", () => {
  const a = side("a", { wait: [10, 20, 30] }, [1, 2, 3]);
  const b = side("b", { wait: [31, 21, null] }, [3, 2, 9]);
  const comparison = compare(a, b);
  expect(comparison.seeds).toEqual([2, 3]);
  expect(comparison.metrics[0]).toMatchObject({ a: 25, b: 26, difference: 1, interval: [1, 1], relative: 0.04 });
  expect(() => compare(a, side("c", { wait: [1] }, [7]))).toThrow("a and c have no seed in common (1, 2, 3 and 7)");
});

describe("thresholds", () => {
  const a = side("a", { wait: [100, 100], good: [10, 10] });
  const b = side("b", { wait: [110, 110], good: [9, 9] });
  test.each([
    ["wait=5%", 1],
    ["wait=10%", 0],
    ["wait=9ns", 1],
    ["wait=10", 0],
    ["good=5%", 1],
    ["good=1", 0],
  ])("%s: %i exceeded", (text, count) => {
    expect(compare(a, b, [parseThreshold(text)]).exceeded).toHaveLength(count);
  });
  test("B that is better never exceeds one", () => {
    expect(compare(b, a, [parseThreshold("wait=0%"), parseThreshold("good=0%")]).exceeded).toEqual([]);
  });
  test("mistakes are one sentence", () => {
    expect(() => parseThreshold("wait")).toThrow("--threshold wait: it must be METRIC=LIMIT");
    expect(() => parseThreshold("wait=much")).toThrow("the limit must be such as 5%, 1ms or 10, got 'much'");
    expect(() => compare(a, b, [parseThreshold("nothing=1")])).toThrow(
      "there is no figure 'nothing' in both; there are wait, good.",
    );
  });
});
