/** The guard: a scheduler that never returns is ejected, and the machine goes on; a defect elsewhere ends the run with an error. */
import { expect, test } from "vitest";
import type { Hypervisor } from "../../../core/hypervisor.ts";
import { createGuard } from "../../../core/node/guard.ts";

interface Pool {
  inCallback: string | null;
  ejected: string[];
  eject(reason: string): void;
}

function fakePool(inCallback: string | null): Pool {
  return {
    inCallback,
    ejected: [],
    eject(reason) {
      this.ejected.push(reason);
    },
  };
}

function withPools(...pools: Pool[]): Hypervisor {
  return { scheduling: { pools } } as unknown as Hypervisor;
}

function forever(): never {
  for (;;);
}

test("a slice runs, and what it throws comes through", () => {
  const guard = createGuard(withPools(), 100);
  let ran = 0;
  guard(() => void ran++);
  guard(() => void ran++);
  expect(ran).toBe(2);
  expect(() =>
    guard(() => {
      throw new RangeError("mine");
    }),
  ).toThrow(RangeError);
});

test("the scheduler whose code does not return is ejected", () => {
  const pools = [fakePool(null), fakePool(null)];
  const guard = createGuard(withPools(...pools), 50);
  guard(() => {
    const pool = pools[1]!;
    pool.inCallback = "wake";
    try {
      forever();
    } finally {
      pool.inCallback = null;
    }
  });
  expect(pools[0]!.ejected).toEqual([]);
  expect(pools[1]!.ejected).toEqual(["wake did not return within 0.05 s"]);
  expect(pools[1]!.inCallback).toBeNull();
});

test("where no scheduler's code ran it is an error", () => {
  const guard = createGuard(withPools(fakePool(null)), 50);
  expect(() => guard(forever)).toThrow("A step of the machine did not return within 0.05 s");
  expect(() => guard(forever, "Attaching note 0")).toThrow("Attaching note 0 did not return within 0.05 s");
});
