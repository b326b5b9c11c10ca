/** (a) Texts per second of the model alone. Every round runs each contender, so that noise affects all equally. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { env, pipeline } from "@huggingface/transformers";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { createProvider } from "#embedd/providers/create-provider.js";
import { defaultManifest } from "#embedd/providers/local/manifest.js";
import { OnnxGraph } from "#embedd/providers/local/onnx-graph.js";
import { loadTokenizer } from "#embedd/providers/local/tokenizer.js";
import { writePlainModel } from "./plain-model.mjs";
import { median, timed } from "./statistics.mjs";

const LAYERS = 6;
const HIDDEN = 384;
const INNER = 1536;

/** Floating point operations for one text of n tokens: dense layers and attention, without padding. */
const flops = (n) =>
  LAYERS * (4 * 2 * n * HIDDEN * HIDDEN + 2 * 2 * n * HIDDEN * INNER + 2 * 2 * n * n * HIDDEN);

export async function benchInference(texts, rounds) {
  const folder = await mkdtemp(join(tmpdir(), "embedd-bench-"));
  try {
    await writePlainModel(join(folder, "minilm"));
    env.localModelPath = folder;
    env.allowRemoteModels = false;
    const extract = await pipeline("feature-extraction", "minilm", { dtype: "fp32" });
    const transformers = async (size) => {
      for (let i = 0; i < texts.length; i += size) {
        await extract(texts.slice(i, i + size), { pooling: "mean", normalize: true });
      }
    };
    const embedd = await createProvider({ provider: "local" });
    // One micro-batch per 64 texts in their original order, padded to the longest.
    const padded = await createProvider({ provider: "local", tokenBudget: 1_000_000 });
    const contenders = {
      "transformers.js, 1 per call": () => transformers(1),
      "transformers.js, 64 per call": () => transformers(64),
      "embedd's session, 64 unsorted": async () => {
        for (let i = 0; i < texts.length; i += 64) await padded.embed(texts.slice(i, i + 64));
      },
      embedd: () => embedd.embed(texts),
    };
    const rates = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
    const perCpu = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
    const delays = { "transformers.js, 64 per call": [], embedd: [] };
    for (const run of Object.values(contenders)) await run(); // warm
    for (let round = 0; round < rounds; round++) {
      for (const [name, run] of Object.entries(contenders)) {
        const histogram = monitorEventLoopDelay({ resolution: 1 });
        histogram.enable();
        const cpu = process.cpuUsage();
        const ms = await timed(run);
        const { user, system } = process.cpuUsage(cpu);
        histogram.disable();
        rates[name].push((texts.length / ms) * 1000);
        perCpu[name].push(texts.length / ((user + system) / 1e6));
        delays[name]?.push(histogram.percentile(99) / 1e6);
      }
    }
    const ceiling = await matrixCeiling();
    const manifest = await defaultManifest();
    const tokenizer = await loadTokenizer(manifest.tokenizerPath, manifest);
    const lengths = (await tokenizer.encode(texts)).map((ids) => ids.length);
    const useful = (lengths.reduce((sum, n) => sum + flops(n), 0) / texts.length) * median(rates.embedd);
    await Promise.all([embedd.close(), padded.close(), extract.dispose()]);
    return {
      rates,
      perCpu,
      tokens: lengths.reduce((sum, n) => sum + n, 0) / lengths.length,
      ceilingGflops: ceiling / 1e9,
      usefulGflops: useful / 1e9,
      delayMs: Object.fromEntries(Object.entries(delays).map(([name, values]) => [name, median(values)])),
    };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Peak fp32 operations per second of a chain of matrix products with the model's dense shapes. */
async function matrixCeiling() {
  const rows = 1024;
  const graph = new OnnxGraph();
  let value = graph.input("x", "FLOAT", [rows, HIDDEN]);
  for (let layer = 0; layer < LAYERS; layer++) {
    const up = graph.floats(new Float32Array(HIDDEN * INNER).fill(0.001 * (layer + 1)), [HIDDEN, INNER]);
    const down = graph.floats(new Float32Array(HIDDEN * INNER).fill(0.002 * (layer + 1)), [INNER, HIDDEN]);
    value = graph.node("MatMul", [graph.node("MatMul", [value, up]), down]);
  }
  graph.output("y", value, "FLOAT", [rows, HIDDEN]);
  const session = await InferenceSession.create(graph.encode("ceiling"));
  const x = new Tensor("float32", new Float32Array(rows * HIDDEN).fill(0.01), [rows, HIDDEN]);
  let best = Infinity;
  for (let i = 0; i < 8; i++) best = Math.min(best, await timed(() => session.run({ x })));
  await session.release();
  return (LAYERS * 2 * 2 * rows * HIDDEN * INNER) / (best / 1000);
}
