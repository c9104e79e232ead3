/** SSE and SSE2 floating point against an x86-64 CPU, and the fast path against the exact one. */
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { executeSse, SSE_OPERATIONS, SseUnit } from "../../../arch/x86/sse-float.ts";
import { hostCpu } from "../../tools/softfloat-vectors/host.ts";
import { Random } from "../../tools/softfloat-vectors/random.ts";
import {
  allSseForms,
  makeSseCase,
  operationOf,
  parseSseVector,
  sseDifference,
  sseHostOutcome,
  sseRequest,
  sseSoftOutcome,
} from "../../tools/softfloat-vectors/sse-cases.ts";

const recorded = readFileSync(new URL("../../fixtures/sse/vectors.txt", import.meta.url), "utf8")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"))
  .map(parseSseVector);

describe("SSE recorded vectors", () => {
  const byName = Map.groupBy(recorded, ({ test }) => operationOf(test).name);
  it("cover every operation", () => {
    expect([...byName.keys()].sort()).toEqual([...SSE_OPERATIONS.keys()].sort());
  });
  for (const [name, vectors] of byName) {
    it(name, () => {
      const wrong = vectors.map(({ test, outcome }) => sseDifference(test, outcome, sseSoftOutcome(test)));
      expect(wrong.filter((text) => text !== undefined)).toEqual([]);
    });
  }
});

describe("this host's CPU", () => {
  const host = hostCpu();
  afterAll(() => host?.close());
  it.skipIf(host === undefined)("agrees on fresh random SSE cases", () => {
    const seed = Date.now() % 2 ** 31;
    const random = new Random(seed);
    const cases = allSseForms().flatMap((form) => Array.from({ length: 80 }, () => makeSseCase(random, form)));
    const answers = host?.run(cases.map(sseRequest)) ?? [];
    const wrong: string[] = [];
    cases.forEach((test, index) => {
      const answer = answers[index];
      if (answer === undefined) throw new Error("an answer is missing");
      const text = sseDifference(test, sseHostOutcome(test, answer), sseSoftOutcome(test));
      if (text !== undefined) wrong.push(`seed ${seed}: ${text}`);
    });
    expect(wrong).toEqual([]);
  });
});

describe("the fast path", () => {
  it("gives what the exact path gives", () => {
    const random = new Random(7);
    const unit = new SseUnit();
    for (const form of allSseForms()) {
      for (let n = 0; n < 30; n++) {
        const test = makeSseCase(random, form);
        const results = [0x1fa0, 0x1fa0 & ~0x20].map((mxcsr) => {
          unit.mxcsr = mxcsr;
          unit.u64[0] = test.destination;
          unit.u64[1] = test.destination >> 64n;
          unit.u64[2] = test.source;
          unit.u64[3] = test.source >> 64n;
          unit.result.fill(0);
          executeSse(unit, form.operation, test.immediate);
          return [unit.u64[4], unit.u64[5], unit.mxcsr | 0x20].map(String);
        });
        expect(results[0]).toEqual(results[1]);
      }
    }
  });
});
