import fc from "fast-check";
import type { Step } from "./run.js";
import { STEP_NAMES } from "./run.js";

const seed = fc.noShrink(fc.integer({ min: 0, max: 2 ** 31 - 1 }));

/** Sequences that mostly begin as everyone does. Shrinking removes steps and keeps the others as they are. */
export const sequences = (maxLength: number): fc.Arbitrary<Step[]> =>
  fc
    .tuple(
      fc.noShrink(fc.integer({ min: 0, max: 9 })),
      seed,
      fc.array(fc.record({ name: fc.noShrink(fc.constantFrom(...STEP_NAMES)), seed }), {
        maxLength,
      }),
    )
    .map(([usual, first, steps]) =>
      usual === 0 ? steps : [{ name: "watch", seed: first }, { name: "settle", seed: 0 }, ...steps],
    );
