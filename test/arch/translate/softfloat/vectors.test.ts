/** The soft-float library against an x86-64 CPU: recorded vectors everywhere, fresh ones where the host can. */
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import {
  difference,
  hostOutcome,
  hostRequest,
  makeCases,
  OPERATIONS,
  parseVector,
  softOutcome,
} from "../../../tools/softfloat-vectors/cases.ts";
import { hostCpu, recordedVendor } from "../../../tools/softfloat-vectors/host.ts";

/** The host lacks the instruction (FMA, SSE4.1). */
const SIGILL = 4;

const recorded = readFileSync(new URL("../../../fixtures/softfloat/vectors.txt", import.meta.url), "utf8")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"))
  .map(parseVector);

describe("recorded vectors", () => {
  for (const op of Object.keys(OPERATIONS)) {
    it(op, () => {
      const vectors = recorded.filter(({ test }) => test.op === op);
      expect(vectors.length).toBeGreaterThan(50);
      const wrong = vectors.map(({ test, outcome }) => difference(test, outcome, softOutcome(test)));
      expect(wrong.filter((text) => text !== undefined)).toEqual([]);
    });
  }
});

describe("this host's CPU", () => {
  const host = hostCpu();
  afterAll(() => host?.close());
  it.skipIf(host === undefined)("agrees on fresh random cases", () => {
    const seed = Date.now() % 2 ** 31;
    const wrong: string[] = [];
    for (const [op, { kind }] of Object.entries(OPERATIONS)) {
      // How far FPREM reduces, and such, is each vendor's own.
      if (kind === "x87" && !recordedVendor()) continue;
      const cases = makeCases(op, seed, 150);
      const answers = host?.run(cases.map(hostRequest)) ?? [];
      cases.forEach((test, index) => {
        const answer = answers[index];
        if (answer === undefined) throw new Error("an answer is missing");
        if (answer.signal === SIGILL) return;
        const text = difference(test, hostOutcome(test, answer), softOutcome(test));
        if (text !== undefined) wrong.push(`seed ${seed}: ${text}`);
      });
    }
    expect(wrong).toEqual([]);
  });
});
