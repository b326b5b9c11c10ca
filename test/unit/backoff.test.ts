import { expect, it } from "vitest";
import { backoffMs } from "#embedd/backoff.js";

it("a delay grows by a factor of two up to its cap, and is random below that", () => {
  const delays = (random: number) =>
    [0, 1, 2, 3, 4, 1_000].map((n) => backoffMs(n, 100, 1_000, () => random));
  expect(delays(1)).toEqual([100, 200, 400, 800, 1_000, 1_000]);
  expect(delays(0.5)).toEqual([50, 100, 200, 400, 500, 500]);
  expect(delays(0)).toEqual([0, 0, 0, 0, 0, 0]);
});
