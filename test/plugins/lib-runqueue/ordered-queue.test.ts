/** The ordered queue against a sorted array, under random operations. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { OrderedQueue } from "../../../plugins/lib-runqueue/index.ts";

type Step = readonly ["add", number, number] | readonly ["remove", number] | readonly ["shift"] | readonly ["clear"];

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.tuple(fc.constant("add" as const), fc.nat(30), fc.integer({ min: -5, max: 5 })) },
    { weight: 4, arbitrary: fc.tuple(fc.constant("remove" as const), fc.nat(30)) },
    { weight: 2, arbitrary: fc.tuple(fc.constant("shift" as const)) },
    { weight: 1, arbitrary: fc.constant(["clear"] as const) },
  ),
  { maxLength: 120 },
);

/** What the queue must be: an array kept in order by insertion behind equals. */
class Model {
  entries: { item: number; key: number }[] = [];
  add(item: number, key: number): void {
    this.remove(item);
    const at = this.entries.findIndex((other) => other.key > key);
    this.entries.splice(at < 0 ? this.entries.length : at, 0, { item, key });
  }
  remove(item: number): boolean {
    const at = this.entries.findIndex((other) => other.item === item);
    if (at >= 0) this.entries.splice(at, 1);
    return at >= 0;
  }
}

describe("OrderedQueue", () => {
  test("is an array in order of key and insertion, whatever is done to it", () => {
    fc.assert(
      fc.property(steps, (list) => {
        const queue = new OrderedQueue<number>();
        const model = new Model();
        for (const step of list) {
          if (step[0] === "add") {
            queue.add(step[1], step[2]);
            model.add(step[1], step[2]);
          } else if (step[0] === "remove") expect(queue.remove(step[1])).toBe(model.remove(step[1]));
          else if (step[0] === "shift") expect(queue.shift()).toBe(model.entries.shift()?.item ?? null);
          else {
            queue.clear();
            model.entries = [];
          }
          const items = model.entries.map((entry) => entry.item);
          expect([...queue]).toEqual(items);
          expect(queue.size).toBe(items.length);
          expect(queue.first()).toBe(items[0] ?? null);
          expect(queue.last()).toBe(items.at(-1) ?? null);
          expect(queue.firstKey()).toBe(model.entries[0]?.key ?? Infinity);
          items.forEach((item, i) => {
            expect(queue.has(item)).toBe(true);
            expect(queue.keyOf(item)).toBe(model.entries[i]!.key);
            expect(queue.next(item)).toBe(items[i + 1] ?? null);
          });
          expect(queue.has(99)).toBe(false);
          expect(queue.keyOf(99)).toBeUndefined();
          expect(queue.next(99)).toBeNull();
        }
      }),
      { numRuns: 200 },
    );
  });

  test.each<[string, (i: number) => number]>([
    ["rising", (i) => i],
    ["falling", (i) => -i],
    ["equal", () => 7],
    ["zigzag", (i) => (i % 2 === 0 ? i : -i)],
    ["scattered", (i) => (i * 7919) % 10_007],
  ])("stays shallow with %s keys, and after half are gone", (_name, key) => {
    const queue = new OrderedQueue<number>();
    const count = 10_000;
    for (let i = 0; i < count; i++) queue.add(i, key(i));
    expect(queue.height()).toBeLessThan(4 * Math.log2(count));
    for (let i = 0; i < count; i += 2) queue.remove(i);
    expect(queue.size).toBe(count / 2);
    expect(queue.height()).toBeLessThan(4 * Math.log2(count));
    const keys = [...queue].map((item) => queue.keyOf(item)!);
    expect(keys.every((value, i) => i === 0 || keys[i - 1]! <= value)).toBe(true);
  });

  test("infinite keys are keys, NaN is refused and leaves the queue alone", () => {
    const queue = new OrderedQueue<string>();
    queue.add("last", Infinity);
    queue.add("middle", 0);
    queue.add("first", -Infinity);
    expect(() => queue.add("middle", Number.NaN)).toThrow(RangeError);
    expect([...queue]).toEqual(["first", "middle", "last"]);
  });

  test("the item just visited may be removed", () => {
    const queue = new OrderedQueue<number>();
    for (let i = 0; i < 50; i++) queue.add(i, i % 5);
    let seen = 0;
    for (const item of queue) {
      seen++;
      queue.remove(item);
    }
    expect(seen).toBe(50);
    expect(queue.size).toBe(0);
  });
});
