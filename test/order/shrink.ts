import fc from "fast-check";
import type { Step } from "./run.js";
import { STEP_NAMES } from "./run.js";

const seed = fc.noShrink(fc.integer({ min: 0, max: 2 ** 31 - 1 }));
const step = (name: string): fc.Arbitrary<Step> => fc.record({ name: fc.constant(name), seed });

/** Steps that rarely follow each other by chance, and together outdate vectors while embedd does not look. */
const MOTIFS = [
  ["unwatch", "edit", "edit", "watch", "settle"],
  ["disable triggers", "edit", "edit", "enable triggers", "settle"],
  ["edit", "edit", "edit", "settle"],
  ["read", "edit", "save", "settle"],
  ["swap", "watch", "edit"],
];

const single = fc
  .record({ name: fc.noShrink(fc.constantFrom(...STEP_NAMES)), seed })
  .map((taken): Step[] => [taken]);
const motif = fc
  .noShrink(fc.constantFrom(...MOTIFS))
  .chain((names) => fc.tuple(...names.map(step)))
  .map((steps): Step[] => steps);
const part = fc.oneof({ weight: 8, arbitrary: single }, { weight: 2, arbitrary: motif });

/**
 * Sequences that mostly begin as everyone does. Shrinking removes steps and keeps the others as they are.
 * @param maxLength a motif counts as one step
 */
export const sequences = (maxLength: number): fc.Arbitrary<Step[]> =>
  fc
    .tuple(fc.noShrink(fc.integer({ min: 0, max: 9 })), seed, fc.array(part, { maxLength }))
    .map(([usual, first, parts]) => {
      const steps = parts.flat();
      return usual === 0 ? steps : [{ name: "watch", seed: first }, { name: "settle", seed: 0 }, ...steps];
    });
