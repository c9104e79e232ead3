/** The governor schedutil: utilisation with head room. */
import { expect, test } from "vitest";
import { Schedutil } from "../../../plugins/governor-schedutil/schedutil.ts";
import { FakeHost } from "../lib-governor/fake-host.ts";

const MS = 1_000_000;

function machine(): FakeHost {
  const host = new FakeHost();
  host.governor = new Schedutil(host);
  return host;
}

test("a hog ramps up to the highest rate and stays there", () => {
  const host = machine();
  host.pass(10 * MS);
  host.run(400 * MS);
  const rising = [...host.set];
  expect(rising.slice(0, -1)).toEqual([...rising.slice(0, -1)].sort((a, b) => a - b));
  expect(rising[0]).toBe(800);
  expect(Math.max(...rising)).toBe(2400);
});

test("a light load runs at the rate at which it leaves a fifth idle", () => {
  const host = machine();
  // Work of 30 % of the highest rate: 1.25 * 0.3 * 2400 = 900, so 1200 is enough.
  for (let i = 0; i < 200; i++) {
    const busy = Math.min(5 * MS, (1.5 * MS * 2400) / host.frequency);
    host.run(busy);
    host.pass(5 * MS - busy);
  }
  expect([800, 1200]).toContain(host.frequency);
});

test("work that waits raises the rate", () => {
  const rate = (waiting: number): number => {
    const host = machine();
    host.waiting = waiting;
    for (let i = 0; i < 40; i++) {
      host.run(1 * MS);
      host.pass(4 * MS);
    }
    host.governor.busy?.(host.now());
    return host.frequency;
  };
  expect(rate(8)).toBeGreaterThan(rate(0));
});

test("no two changes within the rate limit", () => {
  const host = new FakeHost();
  const times: number[] = [];
  const set = host.setFrequency.bind(host);
  host.setFrequency = (mhz) => {
    times.push(host.now());
    set(mhz);
  };
  host.governor = new Schedutil(host, { rateLimit: 10 * MS });
  for (let i = 0; i < 10; i++) {
    host.run(100 * MS);
    for (let j = 0; j < 100; j++) {
      host.run(0.1 * MS);
      host.pass(1 * MS);
    }
  }
  expect(times.length).toBeGreaterThan(3);
  for (let i = 1; i < times.length; i++) expect(times[i]! - times[i - 1]!).toBeGreaterThanOrEqual(10 * MS);
  expect(() => new Schedutil(host, { rateLimit: -1 })).toThrow(/rateLimit/);
});
