/**
 * Exports the default model the usual way, for transformers.js in the benchmark: a directory in the Hugging Face
 * layout with an fp32 ONNX file that uses standard operators only and outputs token vectors.
 */
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { readBertConfig } from "#embedd/providers/local/bert-config.js";
import { defaultManifest } from "#embedd/providers/local/manifest.js";
import { float, int, ints, OnnxGraph } from "#embedd/providers/local/onnx-graph.js";
import { readTensorTable } from "#embedd/providers/local/safetensors.js";

const MASKED = -3.4028234663852886e38;

/**
 * Writes `config.json`, `tokenizer.json`, `tokenizer_config.json` and `onnx/model.onnx` (90 MB).
 * @param {string} directory created if missing
 */
export async function writePlainModel(directory) {
  const { source, tokenizerPath, maxTokens } = await defaultManifest();
  if (source.kind !== "safetensors") throw new Error("the default model has no safetensors file");
  await mkdir(join(directory, "onnx"), { recursive: true });
  await copyFile(source.configPath, join(directory, "config.json"));
  await writePlainTokenizer(tokenizerPath, maxTokens, directory);
  const config = await readBertConfig(source.configPath);
  const weights = await readFloats(source.weightsPath);
  await writeFile(join(directory, "onnx", "model.onnx"), plainGraph(config, weights));
}

async function writePlainTokenizer(path, maxTokens, directory) {
  const tokenizer = JSON.parse(await readFile(path, "utf8"));
  Object.assign(tokenizer, { truncation: null, padding: null });
  await writeFile(join(directory, "tokenizer.json"), JSON.stringify(tokenizer));
  const settings = {
    tokenizer_class: "BertTokenizer",
    do_lower_case: true,
    model_max_length: maxTokens,
    cls_token: "[CLS]",
    sep_token: "[SEP]",
    pad_token: "[PAD]",
    unk_token: "[UNK]",
    mask_token: "[MASK]",
  };
  await writeFile(join(directory, "tokenizer_config.json"), JSON.stringify(settings));
}

/** @returns {Promise<(name: string) => { shape: readonly number[], values: Float32Array }>} */
async function readFloats(path) {
  const table = await readTensorTable(path);
  const bytes = await readFile(path);
  const halfToFloat = halfPrecisionTable();
  return (name) => {
    const { shape, offsetBytes, lengthBytes } = table.get(name);
    const halves = new Uint16Array(lengthBytes / 2);
    new Uint8Array(halves.buffer).set(bytes.subarray(offsetBytes, offsetBytes + lengthBytes));
    const values = new Float32Array(halves.length);
    for (let i = 0; i < halves.length; i++) values[i] = halfToFloat[halves[i]];
    return { shape, values };
  };
}

/** The value of each of the 65,536 half-precision numbers. */
function halfPrecisionTable() {
  return Float32Array.from({ length: 65_536 }, (_, half) => {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}

/** The same graph as a plain export of PyTorch's BERT, with other names. */
function plainGraph(config, read) {
  const { hidden_size: hidden, num_attention_heads: heads, layer_norm_eps: epsilon } = config;
  const graph = new OnnxGraph();
  const tensor = (name) => {
    const { shape, values } = read(name);
    return graph.floats(values, shape);
  };
  const dense = (name, input) => {
    const { shape, values } = read(`${name}.weight`);
    const product = graph.node("MatMul", [
      input,
      graph.floats(transposed(values, shape), [...shape].reverse()),
    ]);
    return graph.node("Add", [product, tensor(`${name}.bias`)]);
  };
  const layerNorm = (block, input) => {
    const inputs = [input, tensor(`${block}.LayerNorm.weight`), tensor(`${block}.LayerNorm.bias`)];
    return graph.node("LayerNormalization", inputs, { axis: int(-1), epsilon: float(epsilon) });
  };
  const scalar = (value) => graph.floats(Float32Array.of(value), []);
  const add = (a, b) => graph.node("Add", [a, b]);
  const multiply = (a, b) => graph.node("Mul", [a, b]);

  const shape = ["batch", "sequence"];
  const ids = graph.input("input_ids", "INT64", shape);
  const mask = graph.input("attention_mask", "INT64", shape);
  const types = graph.input("token_type_ids", "INT64", shape);

  const words = graph.node("Gather", [tensor("embeddings.word_embeddings.weight"), ids]);
  const typeRows = graph.node("Gather", [tensor("embeddings.token_type_embeddings.weight"), types]);
  const length = graph.node("Shape", [ids], { start: int(1), end: int(2) });
  const positions = tensor("embeddings.position_embeddings.weight");
  const positionRows = graph.node("Slice", [positions, graph.int64([0]), length, graph.int64([0])]);
  let state = layerNorm("embeddings", add(add(words, typeRows), positionRows));

  const unmasked = graph.node("Unsqueeze", [graph.cast(mask, "FLOAT"), graph.int64([1, 2])]);
  const maskBias = multiply(graph.node("Sub", [scalar(1), unmasked]), scalar(MASKED));
  const headShape = graph.int64([0, 0, heads, hidden / heads]);
  const split = (value, perm) =>
    graph.node("Transpose", [graph.node("Reshape", [value, headShape])], { perm: ints(perm) });

  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const block = `encoder.layer.${layer}`;
    const query = split(dense(`${block}.attention.self.query`, state), [0, 2, 1, 3]);
    const key = split(dense(`${block}.attention.self.key`, state), [0, 2, 3, 1]);
    const value = split(dense(`${block}.attention.self.value`, state), [0, 2, 1, 3]);
    const raw = graph.node("MatMul", [query, key]);
    const scores = add(graph.node("Div", [raw, scalar(Math.sqrt(hidden / heads))]), maskBias);
    const context = graph.node("MatMul", [graph.node("Softmax", [scores], { axis: int(-1) }), value]);
    const merged = graph.node("Reshape", [
      graph.node("Transpose", [context], { perm: ints([0, 2, 1, 3]) }),
      graph.int64([0, 0, hidden]),
    ]);
    state = layerNorm(
      `${block}.attention.output`,
      add(dense(`${block}.attention.output.dense`, merged), state),
    );
    const wide = dense(`${block}.intermediate.dense`, state);
    const erf = graph.node("Erf", [graph.node("Div", [wide, scalar(Math.SQRT2)])]);
    const gelu = multiply(multiply(wide, add(erf, scalar(1))), scalar(0.5));
    state = layerNorm(`${block}.output`, add(dense(`${block}.output.dense`, gelu), state));
  }
  graph.output("last_hidden_state", state, "FLOAT", ["batch", "sequence", hidden]);
  return graph.encode("bert-plain");
}

function transposed(values, [rows = 0, columns = 0]) {
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++)
      result[column * rows + row] = values[row * columns + column];
  }
  return result;
}
