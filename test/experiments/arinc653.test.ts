/**
 * ARINC Specification 653 Part 1, partition scheduling (in 2.3.1, partition management): partitions are activated in windows of a major time frame of fixed duration, which is
 * repeated periodically. A frame therefore begins at n times its length, whatever happened in the frames before. Xen's scheduler of that name adds the
 * frame's length to the time of the decision (next_major_frame = now + major_frame), so that every late dispatch moves all that follows.
 */
import { describe, expect, test } from "vitest";
import { domainOf, MS, run, runsOf, S } from "./support.ts";

const FRAME = 10 * MS;
const FRAMES = 1000;
/** Begin and end of each window in the frame. */
const WINDOWS = [
  { domain: "flight", from: 0, to: 3 * MS },
  { domain: "radio", from: 3 * MS, to: 5 * MS },
  { domain: "flight", from: 5 * MS, to: 6 * MS },
  { domain: "log", from: 6 * MS, to: 8 * MS },
];

const outcome = await run("arinc653.yaml");
const runs = new Map(["flight", "radio", "log"].map((name) => [name, runsOf(outcome.recording, name)]));
// How late each window began, by window and frame.
const late = WINDOWS.map(({ domain, from }) => {
  const ofFrame = WINDOWS.filter((one) => one.domain === domain);
  const place = ofFrame.findIndex((one) => one.from === from);
  return Array.from(
    { length: FRAMES },
    (_, n) => runs.get(domain)![n * ofFrame.length + place]![0] - (n * FRAME + from),
  );
});

describe("1000 frames", () => {
  test("every frame has all its windows, and no more", () => {
    expect([...runs.values()].map((list) => list.length)).toEqual([2 * FRAMES, FRAMES, FRAMES]);
  });

  test("a window begins when it should, or as late as its own dispatch was: in the last frame as in the first", () => {
    // A window begins by a timer's tickle, which comes 0.3 ms late with probability 0.3. The slice of who ran before ends 0.1 ms after the window's end (for
    // the case that a timer is lost), and is itself prolonged by 0.3 ms with probability 0.3. So late is 0 (0.7), 0.1 ms (0.3 * 0.7) or 0.3 ms (0.3 * 0.3).
    for (const window of late) {
      expect(new Set(window)).toEqual(new Set([0, 0.1 * MS, 0.3 * MS]));
      expect(new Set(window.slice(-100))).toEqual(new Set([0, 0.1 * MS, 0.3 * MS]));
    }
    // 4000 draws: 0.3 with a standard deviation of 0.0072.
    const all = late.flat();
    expect(Math.abs(all.filter((ns) => ns > 0).length / all.length - 0.3)).toBeLessThan(4 * 0.0072);
  });

  test("a frame that begins a length after the last decision would have drifted by five frames", () => {
    // The mean at a frame's beginning is 0.21 * 0.1 + 0.09 * 0.3 = 0.048 ms, 48 ms in 1000 frames (standard deviation sqrt(1000) * 0.087 = 2.8 ms).
    const drift = late[0]!.reduce((sum, ns) => sum + ns, 0);
    expect(Math.abs(drift - 48 * MS)).toBeLessThan(4 * 2.8 * MS);
  });

  test("what a window loses at its beginning, the one before has had: nothing is lost over all", () => {
    // Windows are 8 of 10 ms. flight's first is preceded by the idle rest, log's followed by it; the four means of 48 us a frame cancel but for chance:
    // what all lose is what the first loses, what they win is log's overrun into the rest.
    const ran = outcome.metrics.domains.reduce((sum, { cpu }) => sum + cpu, 0);
    expect(Math.abs(ran - 8 * S)).toBeLessThan(2 * 4 * 2.8 * MS);
    expect(Math.abs(domainOf(outcome, "radio").cpu - 2 * S)).toBeLessThan(2 * 4 * 2.8 * MS);
  });
});
