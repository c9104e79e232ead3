/** The governor ondemand, with Xen's figures. */
import { expect, test } from "vitest";
import { Ondemand } from "../../../plugins/governor-ondemand/ondemand.ts";
import { FakeHost } from "../lib-governor/fake-host.ts";

const MS = 1_000_000;

/** A pCPU that is busy for `busy` of every `period`, for `time`. */
function load(host: FakeHost, busy: number, period: number, time: number): void {
  for (let passed = 0; passed < time; passed += period) {
    host.run(busy);
    host.pass(period - busy);
  }
}

function machine(): FakeHost {
  const host = new FakeHost();
  host.governor = new Ondemand(host);
  return host;
}

test("light load: the lowest rate at which it stays ten points below the threshold", () => {
  const host = machine();
  load(host, 3 * MS, 10 * MS, 200 * MS); // 30 % at 2400: 2400 * 30 / 70 = 1028
  expect(host.set[0]).toBe(1200);
});

test("load in the dead band changes nothing", () => {
  const host = machine();
  load(host, 7.5 * MS, 10 * MS, 400 * MS); // 75 %: neither above 80 nor below 70
  expect(host.set).toEqual([]);
});

test("above the threshold the highest rate at once", () => {
  const host = machine();
  load(host, 1 * MS, 10 * MS, 200 * MS);
  expect(host.frequency).toBe(800);
  host.set.length = 0;
  load(host, 9 * MS, 10 * MS, 100 * MS);
  expect(host.set).toEqual([2400]);
});

test("an idle pCPU has no timer, and a sample that is overdue is taken at its next run", () => {
  const host = machine();
  load(host, 1 * MS, 10 * MS, 50 * MS);
  expect(host.timers.size).toBe(0);
  host.set.length = 0;
  host.pass(1000 * MS);
  expect(host.set).toEqual([]);
  host.run(100);
  expect(host.frequency).toBe(800);
});

test("samples at multiples of the rate while busy", () => {
  const host = machine();
  host.pass(3 * MS);
  host.governor.busy?.(host.now());
  expect(host.timers.next).toBe(20 * MS);
});

test("parameters have bounds", () => {
  expect(() => new Ondemand(new FakeHost(), { upThreshold: 10 })).toThrow(
    "Governor 'ondemand': upThreshold must be a whole number from 11 to 100, got 10.",
  );
  expect(() => new Ondemand(new FakeHost(), { samplingRate: 1 })).toThrow(/samplingRate/);
});
