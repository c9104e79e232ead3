/** The major frame: where a time lies in it. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { MajorFrame } from "../../../plugins/scheduler-arinc653/frame.ts";

const lengths = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 8 });

test("locate finds the window that counting through the frame finds", () => {
  fc.assert(
    fc.property(
      lengths,
      fc.nat(30),
      fc.nat(100),
      fc.array(fc.nat(2000), { maxLength: 20 }),
      (windows, rest, origin, times) => {
        const sum = windows.reduce((a, b) => a + b, 0);
        const frame = MajorFrame.of(windows, sum + rest, origin);
        for (const time of times.sort((a, b) => a - b)) {
          const now = origin + time;
          let at = now - (time % (sum + rest));
          let index = windows.findIndex((window) => {
            at += window;
            return now < at;
          });
          if (index < 0) at += rest;
          if (index < 0) index = -1;
          frame.locate(now);
          expect([frame.index, frame.until]).toEqual([index, at]);
        }
      },
    ),
    { numRuns: 200 },
  );
});

test("a window that is appended or taken out leaves the present one as it is", () => {
  fc.assert(
    fc.property(lengths, fc.nat(500), fc.nat(7), (windows, now, which) => {
      const frame = MajorFrame.of(windows, 0, 0);
      frame.locate(now);
      const { index, until } = frame;
      frame.append(10, now);
      frame.locate(now);
      expect([frame.index, frame.until]).toEqual([index, until]);
      const out = which % windows.length;
      frame.remove(out, now);
      frame.locate(now);
      if (out === index) expect(frame.until - now).toBeGreaterThan(0);
      else expect([frame.index, frame.until]).toEqual([out < index ? index - 1 : index, until]);
    }),
    { numRuns: 200 },
  );
});

test("when the present window goes, the next begins at once", () => {
  const frame = MajorFrame.of([10, 20, 30], 0, 0);
  frame.remove(1, 15);
  frame.locate(15);
  expect([frame.index, frame.until]).toEqual([1, 45]);
  frame.remove(1, 20);
  frame.locate(20);
  expect([frame.index, frame.until]).toEqual([0, 30]);
  frame.remove(0, 20);
  frame.locate(20);
  expect([frame.index, frame.until]).toEqual([-1, Infinity]);
});
