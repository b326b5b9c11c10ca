import { bertTensors, safetensorsFile } from "../../../helpers/bert-weights.js";

/** A BERT of hand-made size, as safetensors and computed in plain TypeScript. */
export type Matrix = number[][];
export type Weights = Record<string, number[] | Matrix>;

export const TINY_CONFIG = {
  model_type: "bert",
  hidden_act: "gelu",
  hidden_size: 4,
  intermediate_size: 6,
  num_attention_heads: 2,
  num_hidden_layers: 2,
  max_position_embeddings: 8,
  type_vocab_size: 2,
  vocab_size: 10,
  layer_norm_eps: 1e-3,
};

/** A safetensors file of float32 tensors. */
export function safetensors(weights: Weights): Buffer {
  return safetensorsFile(
    Object.entries(weights).map(([name, tensor]) => {
      const [first] = tensor;
      const shape = Array.isArray(first) ? [tensor.length, first.length] : [tensor.length];
      return { name, shape, values: tensor.flat() };
    }),
  );
}

/** Weights that differ everywhere, so that a transposed or swapped one shows. */
export function tinyWeights(): Weights {
  let seed = 1;
  const next = (): number => Math.fround(Math.sin(seed++ * 12.9898) * 0.8);
  const vector = (size: number): number[] => Array.from({ length: size }, next);
  const tensor = ([rows = 0, columns]: number[]): number[] | Matrix =>
    columns === undefined ? vector(rows) : Array.from({ length: rows }, () => vector(columns));
  return Object.fromEntries(bertTensors(TINY_CONFIG).map(([name, shape]) => [name, tensor(shape)]));
}

/** The vector of one text, straight from the definition of BERT. */
export function tinyEmbedding(weights: Weights, ids: readonly number[]): number[] {
  const { hidden_size: h, num_attention_heads: heads, layer_norm_eps: epsilon } = TINY_CONFIG;
  const matrix = (name: string): Matrix => weights[name] as Matrix;
  const vector = (name: string): number[] => weights[name] as number[];
  const at = (values: readonly number[] | undefined, i: number): number => values?.[i] ?? NaN;
  const add = (a: number[], b: number[]): number[] => a.map((x, i) => x + at(b, i));
  const dense = (name: string, x: number[]): number[] =>
    matrix(`${name}.weight`).map((row, o) => dot(row, x) + at(vector(`${name}.bias`), o));
  const layerNorm = (block: string, x: number[]): number[] => {
    const mean = x.reduce((a, b) => a + b, 0) / h;
    const variance = x.reduce((a, b) => a + (b - mean) ** 2, 0) / h;
    const gamma = vector(`${block}.LayerNorm.weight`);
    const beta = vector(`${block}.LayerNorm.bias`);
    return x.map((v, i) => ((v - mean) / Math.sqrt(variance + epsilon)) * at(gamma, i) + at(beta, i));
  };

  let state = ids.map((id, position) => {
    const word = matrix("embeddings.word_embeddings.weight")[id] ?? [];
    const place = matrix("embeddings.position_embeddings.weight")[position] ?? [];
    const type = matrix("embeddings.token_type_embeddings.weight")[0] ?? [];
    return layerNorm("embeddings", add(add(word, place), type));
  });
  for (let layer = 0; layer < TINY_CONFIG.num_hidden_layers; layer++) {
    const block = `encoder.layer.${layer}`;
    const [queries, keys, values] = ["query", "key", "value"].map((part) =>
      state.map((x) => dense(`${block}.attention.self.${part}`, x)),
    ) as [Matrix, Matrix, Matrix];
    const size = h / heads;
    const context = queries.map((query) =>
      Array.from({ length: heads }, (_, head) => {
        const slice = (x: number[]): number[] => x.slice(head * size, (head + 1) * size);
        const scores = keys.map((key) => Math.exp(dot(slice(query), slice(key)) / Math.sqrt(size)));
        const total = scores.reduce((a, b) => a + b, 0);
        return slice(query).map((_x, i) =>
          values.reduce((sum, value, j) => sum + (at(scores, j) / total) * at(slice(value), i), 0),
        );
      }).flat(),
    );
    state = state.map((x, i) => {
      const attended = dense(`${block}.attention.output.dense`, context[i] ?? []);
      const first = layerNorm(`${block}.attention.output`, add(attended, x));
      const wide = dense(`${block}.intermediate.dense`, first).map(gelu);
      return layerNorm(`${block}.output`, add(dense(`${block}.output.dense`, wide), first));
    });
  }
  const sum = state.reduce(add);
  const norm = Math.sqrt(dot(sum, sum));
  return sum.map((x) => x / norm);
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, x, i) => sum + x * (b[i] ?? NaN), 0);
}

/** x · Φ(x), the integral of the normal density taken by Simpson's rule. */
function gelu(x: number): number {
  const steps = 2000;
  const width = x / steps;
  const density = (t: number): number => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
  let area = density(0) + density(x);
  for (let i = 1; i < steps; i++) area += density(i * width) * (i % 2 === 1 ? 4 : 2);
  return x * (0.5 + (area * width) / 3);
}
