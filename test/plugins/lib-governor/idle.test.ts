/** Idle states by forecast. */
import { expect, test } from "vitest";
import { MenuIdle, rateAtLeast } from "../../../plugins/lib-governor/index.ts";
import { FakeHost } from "./fake-host.ts";

/** Idles `times` times for `slept` after an expectation; answers the last state chosen. */
function history(menu: MenuIdle, times: number, expected: number, slept: number, start = 0): number {
  let now = start;
  let state = -1;
  for (let i = 0; i < times; i++) {
    state = menu.idle(now, expected);
    now += slept;
    menu.busy(now);
    now += 10_000;
  }
  return state;
}

test("without a history the next timer decides", () => {
  for (const [expected, state] of [
    [1_000, 0],
    [99_000, 0],
    [150_000, 1],
    [999_999, 1],
    [1_000_000, 2],
    [Number.POSITIVE_INFINITY, 2],
  ] as const)
    expect(new MenuIdle(new FakeHost()).idle(0, expected), `${expected}`).toBe(state);
});

test("wake-ups that come before the timer, again and again, are expected", () => {
  const menu = new MenuIdle(new FakeHost());
  expect(history(menu, 1, 5_000_000, 200_000)).toBe(2);
  expect(history(menu, 20, 5_000_000, 200_000, 1e9)).toBe(1);
  expect(menu.forecast()).toBeLessThan(200_001);
  expect(history(menu, 20, 5_000_000, 30_000, 2e9)).toBe(0);
});

test("and unlearned when idling is long again", () => {
  const menu = new MenuIdle(new FakeHost());
  history(menu, 20, 5_000_000, 30_000);
  expect(history(menu, 40, 5_000_000, 5_000_000, 1e9)).toBe(2);
});

test("a few long sleeps among short ones do not spoil the forecast", () => {
  const menu = new MenuIdle(new FakeHost());
  let now = 0;
  for (let i = 0; i < 16; i++) {
    menu.idle(now, 10_000_000);
    now += i % 8 < 2 ? 9_000_000 : 60_000;
    menu.busy(now);
  }
  expect(menu.idle(now, 10_000_000)).toBe(0);
});

test("the lowest rate that is not below what is wanted", () => {
  const rates = [800, 1200, 2400];
  expect([0, 800, 801, 1300, 9999].map((mhz) => rateAtLeast(rates, mhz))).toEqual([800, 800, 1200, 2400, 2400]);
});
