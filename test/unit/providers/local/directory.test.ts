import { execFileSync } from "node:child_process";
import { appendFile, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createLocalProvider } from "#embedd/providers/local/index.js";
import { defaultManifest, directoryManifest } from "#embedd/providers/local/manifest.js";
import { embedTexts } from "#embedd/worker/embed/isolate-refused.js";
import { writePlainModel } from "../../../bench/plain-model.mjs";
import { cosine, MIXED_TEXTS } from "../../../helpers/golden-texts.js";
import { safetensors, TINY_CONFIG, tinyWeights } from "./tiny-model.js";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "embedd-directory-"));
});
afterAll(() => rm(root, { recursive: true }));

describe("a directory in the Hugging Face layout", () => {
  it("with a plain ONNX file gives the vectors of the built graph", async () => {
    const directory = join(root, "all-MiniLM-L6-v2");
    await writePlainModel(directory);
    const [built, plain] = await Promise.all([
      createLocalProvider(),
      createLocalProvider({ modelPath: directory }),
    ]);
    const expected = await built.embed(MIXED_TEXTS);
    const vectors = await plain.embed(MIXED_TEXTS);
    expect(plain.model).toMatch(/^all-MiniLM-L6-v2@[0-9a-f]{8}$/);
    expect(plain.dimensions).toBe(384);
    vectors.forEach((vector, i) => {
      expect(cosine(vector, expected[i] ?? [])).toBeGreaterThanOrEqual(0.99999);
      expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    });
    await Promise.all([built.close(), plain.close()]);
  });

  it("has a name that tells other weights and another tokenizer apart, in any folder of that name", async () => {
    const directory = await tinyDirectory("named");
    const nameOf = async () => (await directoryManifest(directory)).name;
    const first = await nameOf();
    expect(first).toMatch(/^named@[0-9a-f]{8}$/);
    const copy = join(root, "elsewhere", "named");
    await cp(directory, copy, { recursive: true });
    expect((await directoryManifest(copy)).name).toBe(first);
    const weights = join(directory, "model.safetensors");
    const bytes = await readFile(weights);
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
    await writeFile(weights, bytes);
    const second = await nameOf();
    await appendFile(join(directory, "tokenizer.json"), "\n");
    expect(new Set([first, second, await nameOf()]).size).toBe(3);
    expect((await directoryManifest(directory, "mine")).name).toBe("mine");
    const provider = await createLocalProvider({ modelPath: await tinyDirectory("set"), modelName: "mine" });
    expect(provider.model).toBe("mine");
    await provider.close();
  });

  it.each([
    ["where texts are cut", "sentence_bert_config.json", { max_seq_length: 5 }],
    ["lower-cased texts", "sentence_bert_config.json", { do_lower_case: true }],
    ["a prompt", "config_sentence_transformers.json", { prompts: { query: "query: " } }],
    ["the heads of its attention", "config.json", { ...TINY_CONFIG, num_attention_heads: 1 }],
  ])("has another name with other settings: %s", async (what, file, settings) => {
    const directory = await tinyDirectory(`settings ${what}`);
    const first = (await directoryManifest(directory)).name;
    await writeFile(join(directory, file), JSON.stringify(settings));
    expect((await directoryManifest(directory)).name).not.toBe(first);
  });

  it("has another name with other weights next to an ONNX file", async () => {
    const directory = join(root, "in-parts");
    await writePlainModel(directory);
    const first = (await directoryManifest(directory)).name;
    await writeFile(join(directory, "onnx", "model.onnx_data"), "weights");
    expect((await directoryManifest(directory)).name).not.toBe(first);
  });

  it("keeps its name when other files appear next to its ONNX file, and refuses a FIFO", async () => {
    const directory = join(root, "in-parts-too");
    await writePlainModel(directory);
    const first = (await directoryManifest(directory)).name;
    await writeFile(join(directory, "onnx", "model.onnx.sha256"), "a checksum");
    await mkdir(join(directory, "onnx", "model.onnx.bak"));
    await symlink("/nowhere", join(directory, "onnx", "model.onnx.old"));
    expect((await directoryManifest(directory)).name).toBe(first);
    execFileSync("mkfifo", [join(directory, "onnx", "model.onnx_data")]);
    await expect(directoryManifest(directory)).rejects.toMatchObject({
      code: "model_missing",
      message: expect.stringMatching(/model\.onnx_data is not a regular file/) as unknown,
    });
  });

  it("takes the tokens from sentence_bert_config.json, and refuses another pooling", async () => {
    const directory = await tinyDirectory("tiny");
    expect(await directoryManifest(directory)).toMatchObject({ maxTokens: 8, dimensions: 4 });
    await writeFile(join(directory, "sentence_bert_config.json"), JSON.stringify({ max_seq_length: 5 }));
    expect(await directoryManifest(directory)).toMatchObject({ maxTokens: 5 });
    const pooling = { pooling_mode_cls_token: true, pooling_mode_mean_tokens: false };
    await writeFile(join(directory, "1_Pooling", "config.json"), JSON.stringify(pooling));
    await expect(directoryManifest(directory)).rejects.toMatchObject({
      kind: "configuration",
      message: expect.stringContaining("pooling_mode_mean_tokens") as unknown,
    });
  });

  it("without a model is refused by name", async () => {
    await expect(createLocalProvider({ modelPath: join(root, "nowhere") })).rejects.toMatchObject({
      kind: "configuration",
      code: "model_missing",
      message: expect.stringContaining("nowhere") as unknown,
    });
  });

  it("with an invalid ONNX file is refused", async () => {
    const directory = await tinyDirectory("broken");
    await writeFile(join(directory, "model.onnx"), "not a model");
    await expect(createLocalProvider({ modelPath: directory })).rejects.toMatchObject({
      kind: "configuration",
      code: "model_unusable",
    });
  });

  it("never returns a vector that is not finite", async () => {
    const weights = tinyWeights();
    weights["encoder.layer.1.output.LayerNorm.bias"] = [NaN, 0, 0, 0];
    const directory = await tinyDirectory("poisoned", weights);
    const provider = await createLocalProvider({ modelPath: directory });
    await expect(provider.embed([""])).rejects.toMatchObject({ kind: "row", code: "unusable_vector" });
    await provider.close();
  });

  it("whose vocabulary lacks the tokenizer's special tokens is refused", async () => {
    // [CLS] is token 101.
    await expect(createLocalProvider({ modelPath: await tinyDirectory("small") })).rejects.toMatchObject({
      kind: "configuration",
      code: "model_config",
      message: expect.stringMatching(/small cannot embed a text of 8 times token 101: /) as unknown,
    });
  });

  it("whose vocabulary is smaller than its tokenizer's fails the call, not the thread", async () => {
    const provider = await createLocalProvider({ modelPath: await tinyDirectory("narrow-vocabulary") });
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(provider.embed(["a b"])).rejects.toThrow();
      await expect(provider.embed([""])).resolves.toHaveLength(1);
    }
    await provider.close();
  });
});

describe("a text that the model cannot embed", () => {
  it("is charged alone, and its neighbors in the micro-batch get their vectors", async () => {
    // The vocabulary ends after [SEP], so only a text without words has a vector.
    const provider = await createLocalProvider({ modelPath: await tinyDirectory("narrow") });
    const results = await embedTexts(provider, ["", "words", " ", "more words", ""]);
    expect(results.map((result) => "embedding" in result)).toEqual([true, false, true, false, true]);
    expect(results[1]).toMatchObject({ error: { kind: "row", code: "failed_input" } });
    const again = {
      kind: "row",
      code: "failed_input",
      message: expect.stringMatching(/^narrow@\w+ fails/) as unknown,
    };
    await expect(provider.embed(["words"])).rejects.toMatchObject(again);
    await provider.close();
  });

  it("is not charged if the model returns NaN for every text", async () => {
    const weights = tinyWeights();
    weights["encoder.layer.1.output.LayerNorm.bias"] = [NaN, 0, 0, 0];
    const provider = await createLocalProvider({ modelPath: await tinyDirectory("broken-weights", weights) });
    await expect(embedTexts(provider, ["", " "])).rejects.toMatchObject({
      kind: "provider",
      code: "wrong_answer",
    });
    await provider.close();
  });
});

/** The tiny model, with a vocabulary wide enough for [CLS] and [SEP] unless it is called "small". */
async function tinyDirectory(name: string, weights = tinyWeights()): Promise<string> {
  const directory = join(root, name);
  await mkdir(join(directory, "1_Pooling"), { recursive: true });
  await writeFile(join(directory, "1_Pooling", "config.json"), JSON.stringify({ pooling_mode: "mean" }));
  const { tokenizerPath } = await defaultManifest();
  await cp(tokenizerPath, join(directory, "tokenizer.json"));
  const vocabulary = name === "small" ? TINY_CONFIG.vocab_size : 103;
  const rows = Array.from({ length: vocabulary }, (_, i) => [i, i % 7, i % 5, i % 3]);
  const wide = { ...weights, "embeddings.word_embeddings.weight": rows };
  await writeFile(join(directory, "model.safetensors"), safetensors(wide));
  await writeFile(join(directory, "config.json"), JSON.stringify({ ...TINY_CONFIG, vocab_size: vocabulary }));
  return directory;
}
