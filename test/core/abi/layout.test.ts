/** Compares core/abi with what a C compiler made of Xen's public headers (recorded by test/tools/abi-layout). */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type AbiFacts, collect, TARGETS } from "../../tools/abi-layout/collect.ts";

describe.each(TARGETS)("core/abi for $name", (target) => {
  const file = new URL(`../../fixtures/abi/${target.name}.json`, import.meta.url);
  const recorded = JSON.parse(readFileSync(file, "utf8")) as AbiFacts;
  const ours = collect(target);

  it("has the structures that were recorded, and no others", () => {
    expect(Object.keys(ours.structs).sort()).toEqual(Object.keys(recorded.structs).sort());
    expect(Object.keys(ours.structs).length).toBeGreaterThan(100);
  });

  it.each(Object.keys(recorded.structs))("lays out %s as the compiler does", (name) => {
    expect(ours.structs[name]).toEqual(recorded.structs[name]);
  });

  it("has the headers' constants", () => {
    expect(ours.constants).toEqual(recorded.constants);
    expect(Object.keys(ours.constants).length).toBeGreaterThan(300);
  });

  it("computes what the headers' macros compute", () => {
    expect(ours.expressions).toEqual(recorded.expressions);
  });
});
