/** The queue on the way to a guest: latency, bounds, staleness, one timer. */
import { expect, test } from "vitest";
import { DRAIN, plainFrame, QUEUE_BYTES, QUEUE_FRAMES, WIRE_LATENCY, Wire } from "../../../plugins/lib-switch/index.ts";

function rig() {
  const timers: { at: number; fire: (now: number) => void }[] = [];
  const state = { now: 0, due: 0 };
  const wire = new Wire({
    now: () => state.now,
    timer: (at, fire) => {
      const timer = { at, fire };
      timers.push(timer);
      return { at, cancel: () => void timers.splice(timers.indexOf(timer), 1) };
    },
    due: () => state.due++,
  });
  const frame = (length: number) => plainFrame(new Uint8Array(length));
  return { wire, state, timers, frame };
}

test("a frame arrives after the latency; one timer, for the first", () => {
  const { wire, state, timers, frame } = rig();
  wire.put([frame(60), frame(61)], 0, 100);
  state.now = 5;
  wire.put([frame(62)], 5, 100);
  expect([timers.map(({ at }) => at), wire.head()]).toEqual([[WIRE_LATENCY], null]);
  state.now = WIRE_LATENCY;
  timers.pop()!.fire(state.now);
  expect([state.due, wire.head()?.bytes.length]).toEqual([1, 60]);
  wire.shift();
  wire.shift();
  expect([wire.head(), wire.waiting]).toEqual([null, 1]);
  wire.rest();
  expect(timers.map(({ at }) => at)).toEqual([5 + WIRE_LATENCY]);
  state.now += 5;
  wire.shift();
  wire.rest();
  expect([timers, wire.waiting, wire.dropped]).toEqual([[], 0, 0]);
});

test("a frame that waits for room: the guest is looked after at intervals, or when it is stale", () => {
  const { wire, state, timers, frame } = rig();
  wire.put([frame(60)], 0, 100);
  timers.pop();
  state.now = 2 * WIRE_LATENCY;
  wire.rest(1000);
  expect(timers.map(({ at }) => at)).toEqual([state.now + 1000]);
  wire.rest();
  expect([timers.map(({ at }) => at), wire.stale]).toEqual([[WIRE_LATENCY + DRAIN], false]);
  state.now = WIRE_LATENCY + DRAIN;
  expect(wire.stale).toBe(true);
  wire.stop();
  expect([timers, wire.dropped, wire.stale]).toEqual([[], 1, false]);
});

test("what is too long, too much or too many is dropped", () => {
  const { wire, frame } = rig();
  wire.put([], 0, 100);
  wire.put([frame(101)], 0, 100);
  expect([wire.dropped, wire.waiting]).toEqual([2, 0]);
  const size = QUEUE_BYTES / 8;
  wire.put(
    Array.from({ length: 9 }, () => frame(size)),
    0,
    Infinity,
  );
  expect([wire.dropped, wire.waiting]).toEqual([3, 8]);
  const many = rig();
  many.wire.put(
    Array.from({ length: QUEUE_FRAMES + 5 }, () => frame(60)),
    0,
    100,
  );
  expect([many.wire.dropped, many.wire.waiting]).toEqual([5, QUEUE_FRAMES]);
});
