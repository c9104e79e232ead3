/** An ejection says where in the plugin's file it was thrown, and when. */
import { expect, test } from "vitest";
import { placeOf } from "../../../core/errors.ts";
import { FifoScheduler } from "../../../core/scheduling/fifo.ts";
import type { Decision } from "../../../core/scheduling/scheduler.ts";
import { hog, Load } from "../../support/load.ts";

const MS = 1e6;

/** Throws at 30 ms: in its own code, or in core's, which it calls wrongly. */
class Throws extends FifoScheduler {
  inCore = false;
  override doSchedule(...[pcpu, now]: [pcpu: Parameters<FifoScheduler["doSchedule"]>[0], now?: number]): Decision {
    if (now! >= 30 * MS && !this.inCore) throw new Error("boom"); // line 14
    if (now! >= 30 * MS) super.doSchedule(null as never); // line 15
    return { unit: super.doSchedule(pcpu).unit, slice: 10 * MS };
  }
}

test.each([
  [false, 14],
  [true, 15],
])("of a scheduler (within core: %s)", (inCore, line) => {
  const load = new Load((host) => Object.assign(new Throws(host), { inCore }), { pcpus: 1, lazy: true });
  load.domain("a", [hog]);
  const said: string[] = [];
  load.machine.onLog = (text) => void said.push(text);
  load.run(100 * MS);
  const [fault] = load.pool.faults;
  expect(fault?.reason).not.toContain(".ts");
  expect(fault).toMatchObject({ place: `test/core/scheduling/place.test.ts:${line}` });
  expect(fault!.time).toBeGreaterThanOrEqual(30 * MS);
  expect(fault!.time).toBeLessThan(31 * MS);
  expect(said).toEqual([
    `pool Pool-0: scheduler '${fault!.plugin}' of plugin '${fault!.plugin}' is ejected: ${fault!.reason} at ${fault!.place} (virtual time ${fault!.time} ns); fifo takes over`,
  ]);
});

test("stacks of all kinds", () => {
  const at = (stack: unknown): string | undefined => placeOf(Object.assign(new Error("x"), { stack }));
  const core = new URL("../../../core/", import.meta.url).href;
  expect(at(`Error: x\n    at f (${core}a.ts:1:2)\n    at async g (file:///my%20own/turns.ts:7:3)`)).toBe(
    "/my own/turns.ts:7",
  );
  expect(at("Error: x\n    at new Mine (/opt/mine.js:12:30)\n    at /opt/other.js:1:1")).toBe("/opt/mine.js:12");
  expect(at("Error: two\n    lines\n    at node:internal/timers:1:2\n    at /opt/other.js:3:1")).toBe(
    "/opt/other.js:3",
  );
  for (const nothing of [undefined, null, 5, "", "Error", "Error: x\n    at <anonymous>", `    at ${core}a.ts:1:2`])
    expect(at(nothing)).toBeUndefined();
  expect(at("    at file:///%zz/x.ts:1:1")).toBeUndefined();
  for (const thrown of ["text", null, undefined, { stack: "    at /a.ts:1:1" }])
    expect(placeOf(thrown)).toBeUndefined();
  const hostile = Object.defineProperty(new Error("x"), "stack", {
    get() {
      throw new Error("no");
    },
  });
  expect(placeOf(hostile)).toBeUndefined();
});
