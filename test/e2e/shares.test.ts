import { expect, it } from "vitest";
import { shares } from "./shares.ts";

it("weights 256:512:1024 give shares near 1/7, 2/7, 4/7 after 8 virtual seconds (the long form: 64)", async () => {
  const [light, middle, heavy] = await shares(8, 60_000);
  expect(Math.abs((light ?? 0) - 1 / 7)).toBeLessThan(0.03);
  expect(Math.abs((middle ?? 0) - 2 / 7)).toBeLessThan(0.03);
  expect(Math.abs((heavy ?? 0) - 4 / 7)).toBeLessThan(0.03);
});
