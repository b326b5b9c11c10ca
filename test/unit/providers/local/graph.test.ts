import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { loadModelSession } from "#embedd/providers/local/model-session.js";
import { poolAndNormalize } from "#embedd/providers/local/pooling.js";
import { safetensors, TINY_CONFIG, tinyEmbedding, tinyWeights } from "./tiny-model.js";
import type { Weights } from "./tiny-model.js";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "embedd-graph-"));
});
afterAll(() => rm(directory, { recursive: true }));

async function load(weights: Weights, config: object = TINY_CONFIG): ReturnType<typeof loadModelSession> {
  const weightsPath = join(directory, "weights.safetensors");
  const configPath = join(directory, "config.json");
  await writeFile(weightsPath, safetensors(weights));
  await writeFile(configPath, JSON.stringify(config));
  return loadModelSession({ source: { kind: "safetensors", weightsPath, configPath }, threads: 1 });
}

it("the graph computes the definition of BERT, with and without padding", async () => {
  const weights = tinyWeights();
  const session = await load(weights);
  const texts = [[1, 7, 3, 9, 2], [4], [5, 0, 8]];
  const length = 5;
  // Padded with a word that would change the result if it counted.
  const ids = Int32Array.from(texts.flatMap((text) => Array.from({ length }, (_, i) => text[i] ?? 6)));
  const vectors = await session.run(
    ids,
    Int32Array.from(texts, (text) => text.length),
    length,
  );
  await session.close();
  const expected = texts.flatMap((text) => tinyEmbedding(weights, text));
  expect(vectors).toHaveLength(expected.length);
  expected.forEach((value, i) => expect(vectors[i]).toBeCloseTo(value, 5));
});

it("the graph refuses weights with a missing tensor or a tensor of another shape, and names it", async () => {
  const name = "encoder.layer.1.output.dense.weight";
  const { [name]: left, ...missing } = tinyWeights();
  expect(left).toBeDefined();
  const wanted = { kind: "configuration", code: "model_weights" };
  const naming = expect.stringContaining(name) as unknown;
  await expect(load(missing)).rejects.toMatchObject({ ...wanted, message: naming });
  await expect(load({ ...tinyWeights(), [name]: [[1, 2]] })).rejects.toMatchObject({
    ...wanted,
    message: naming,
  });
});

it("the graph refuses a config of another kind of model", async () => {
  const other = { ...TINY_CONFIG, hidden_act: "relu", num_attention_heads: 0 };
  await expect(load(tinyWeights(), other)).rejects.toMatchObject({
    kind: "configuration",
    code: "model_config",
    message: expect.stringMatching(/hidden_act[^]*num_attention_heads/) as unknown,
  });
});

it("pooling uses only the tokens that count, and keeps the direction of pooled vectors", () => {
  const tokens = Float32Array.of(3, 0, 0, 4, 99, 99, /* second row */ 0, 2, 99, 99, 99, 99);
  expect([...poolAndNormalize(tokens, [2, 3, 2], Int32Array.of(2, 1))]).toEqual([
    ...Float32Array.of(0.6, 0.8, 0, 1),
  ]);
  expect([...poolAndNormalize(Float32Array.of(3, 4), [1, 2], Int32Array.of(7))]).toEqual([
    ...Float32Array.of(0.6, 0.8),
  ]);
  const zeros = Float32Array.of(0, 0, 3, 4);
  expect([...poolAndNormalize(zeros, [2, 2], Int32Array.of(1, 1))], "a row of zeros stays").toEqual([
    ...Float32Array.of(0, 0, 0.6, 0.8),
  ]);
  expect([...zeros], "the caller's").toEqual([0, 0, 3, 4]);
  expect(() => poolAndNormalize(Float32Array.of(1), [1], Int32Array.of(1))).toThrow("shape [1]");
});
