/** The timer queue against a naive sorted list, under random arming, cancelling and firing, from within callbacks too. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Timer, TimerQueue } from "../../../core/machine/timers.ts";

type Command =
  | { readonly kind: "arm"; readonly at: number; readonly nested: number }
  | { readonly kind: "cancel"; readonly which: number }
  | { readonly kind: "fire"; readonly to: number };

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("arm" as const), at: fc.nat(50), nested: fc.nat(8) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("cancel" as const), which: fc.nat(200) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("fire" as const), to: fc.nat(60) }) },
);

interface Model {
  readonly id: number;
  readonly at: number;
  readonly order: number;
}

describe("timers", () => {
  test("fire in order of time, then of arming; the cancelled never; each once", () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 300 }), (commands) => {
        const queue = new TimerQueue();
        let model: Model[] = [];
        const timers: Timer[] = [];
        const fired: number[] = [];
        const arm = (at: number, nested: number): void => {
          const id = timers.length;
          model.push({ id, at, order: id });
          timers.push(
            queue.arm(at, (now) => {
              expect(now).toBe(at);
              fired.push(id);
              // Arms or cancels from within, in some of them.
              if (nested === 1) arm(at, 0);
              if (nested === 2) arm(at + 5, 0);
              if (nested === 3) cancel(id + 1);
              if (nested === 4) cancel(id);
            }),
          );
        };
        const cancel = (which: number): void => {
          const id = timers.length === 0 ? 0 : which % timers.length;
          timers[id]?.cancel();
          model = model.filter((one) => one.id !== id);
        };
        const first = (): Model | undefined => [...model].sort((a, b) => a.at - b.at || a.order - b.order)[0];
        for (const one of commands) {
          if (one.kind === "arm") arm(one.at, one.nested);
          else if (one.kind === "cancel") cancel(one.which);
          else {
            const due = first();
            const expected = due !== undefined && due.at <= one.to;
            if (expected) model = model.filter((other) => other !== due);
            const before = fired.length;
            expect(queue.fireOne(one.to)).toBe(expected);
            expect(fired.length - before).toBe(expected ? 1 : 0);
            if (expected) expect(fired[before]).toBe(due.id);
          }
          expect(queue.next).toBe(first()?.at ?? Infinity);
          expect(queue.size).toBe(model.length);
        }
      }),
      { numRuns: 200, interruptAfterTimeLimit: 2000 },
    );
  });

  test("thousands that are cancelled cost nothing and disturb nobody", () => {
    const queue = new TimerQueue();
    const fired: number[] = [];
    for (let round = 0; round < 20; round++) {
      const many = Array.from({ length: 1000 }, (_, i) => queue.arm(1000 + i, () => fired.push(-1)));
      queue.arm(round, () => fired.push(round));
      for (const timer of many) timer.cancel();
      for (const timer of many) timer.cancel();
    }
    expect(queue.size).toBe(20);
    while (queue.fireOne(Infinity));
    expect(fired).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });

  test("whole nanoseconds, until virtual time ends", () => {
    const queue = new TimerQueue();
    expect(queue.arm(1.25, () => {}).at).toBe(2);
    expect(() => queue.arm(Number.NaN, () => {})).toThrow(RangeError);
    expect(() => queue.arm(Infinity, () => {})).toThrow(RangeError);
    queue.arm(2 ** 60, () => {}).cancel();
    queue.arm(2 ** 60, () => {});
    expect(queue.next).toBe(2);
    queue.fireOne(2);
    expect(queue.next).toBe(Infinity);
  });
});
