import fc from "fast-check";
import { expect, it } from "vitest";
import { planMicroBatches } from "#embedd/providers/local/batching.js";

const lengths = fc.array(fc.integer({ min: 1, max: 256 }), { maxLength: 300 });
const budget = fc.integer({ min: 1, max: 4096 });

it("planning puts every row in exactly one micro-batch", () => {
  fc.assert(
    fc.property(lengths, budget, (rows, tokens) => {
      const seen = planMicroBatches(rows, tokens).flatMap((batch) => [...batch.rows]);
      expect(seen.sort((a, b) => a - b)).toEqual(rows.map((_, row) => row));
    }),
  );
});

it("planning stays within the token budget, padding included, except for a single row", () => {
  fc.assert(
    fc.property(lengths, budget, (rows, tokens) => {
      for (const batch of planMicroBatches(rows, tokens)) {
        expect(batch.length).toBe(Math.max(...batch.rows.map((row) => rows[row] ?? NaN)));
        if (batch.rows.length > 1) expect(batch.rows.length * batch.length).toBeLessThanOrEqual(tokens);
      }
    }),
  );
});

it("planning puts rows of similar length together", () => {
  const batches = planMicroBatches([5, 200, 6, 199, 5], 400);
  expect(batches).toEqual([
    { rows: [1, 3], length: 200 },
    { rows: [2, 0, 4], length: 6 },
  ]);
});
