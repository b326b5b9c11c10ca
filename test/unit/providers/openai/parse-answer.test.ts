import { expect, it } from "vitest";
import { parseAnswer } from "#embedd/providers/openai/answer.js";

const answer = (...items: object[]) => ({ data: items });

it.each<[string, object, number]>([
  ["fewer vectors than texts", answer({ index: 0, embedding: [1] }), 2],
  ["more vectors than texts", answer({ index: 0, embedding: [1] }, { index: 1, embedding: [1] }), 1],
  ["an index beyond the texts", answer({ index: 0, embedding: [1] }, { index: 2, embedding: [1] }), 2],
  ["an index below zero", answer({ index: 0, embedding: [1] }, { index: -1, embedding: [1] }), 2],
  ["half an index", answer({ index: 0, embedding: [1] }, { index: 0.5, embedding: [1] }), 2],
  ["an index twice", answer({ index: 0, embedding: [1] }, { index: 0, embedding: [1] }), 2],
  ["vectors of different lengths", answer({ index: 0, embedding: [1] }, { index: 1, embedding: [1, 2] }), 2],
])("an answer with %s is wrong", (_, body, inputs) => {
  expect(() => parseAnswer(body, inputs)).toThrow(expect.objectContaining({ name: "WrongAnswer" }));
});

it("a vector of zeros stays one, and null in a vector is not zero", () => {
  const body = answer(
    { index: 1, embedding: [3, 4] },
    { index: 0, embedding: [0, 0] },
    { index: 2, embedding: [null, 1] },
  );
  const { vectors } = parseAnswer(body, 3);
  expect(vectors.map((vector) => [...vector])).toEqual([[0, 0], [...Float32Array.of(0.6, 0.8)], [NaN, NaN]]);
});
