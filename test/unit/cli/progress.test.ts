import { expect, it } from "vitest";
import { speedOf } from "#embedd/cli/progress.js";

it.each([
  [0, 100, 5_000, { rate: "-", left: "" }],
  [10, 20, 1_000, { rate: "10", left: " | 1s left" }],
  [10, 1_310, 1_000, { rate: "10", left: " | 2m10s left" }],
  [10, 72_610, 1_000, { rate: "10", left: " | 2h1m left" }],
  [20, 20, 1_000, { rate: "20", left: " | 0s left" }],
])("%i of %i rows after %i ms show a rate, and an estimate once there is one", (done, total, ms, shown) => {
  expect(speedOf(done, total, ms)).toEqual(shown);
});
