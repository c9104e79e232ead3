import { expect, it } from "vitest";
import { shares } from "./shares.ts";

it("weights 256:512:1024 give shares 1/7, 2/7, 4/7 within 0.015 over 64 virtual seconds", async () => {
  const [light, middle, heavy] = await shares(64, 600_000);
  expect(Math.abs((light ?? 0) - 1 / 7)).toBeLessThan(0.015);
  expect(Math.abs((middle ?? 0) - 2 / 7)).toBeLessThan(0.015);
  expect(Math.abs((heavy ?? 0) - 4 / 7)).toBeLessThan(0.015);
});
