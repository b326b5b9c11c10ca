import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { embedQuery } from "#embedd/providers/create-provider.js";
import { createLocalProvider } from "#embedd/providers/local/index.js";
import { defaultManifest, directoryManifest } from "#embedd/providers/local/manifest.js";
import { OnnxGraph } from "#embedd/providers/local/onnx-graph.js";
import { cosine } from "../../../helpers/golden-texts.js";
import { safetensors, TINY_CONFIG, tinyWeights } from "./tiny-model.js";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "embedd-st-"));
});
afterAll(() => rm(root, { recursive: true }));

type Files = Record<string, unknown>;

/** What today's sentence-transformers saves. */
const SAVED: Files = {
  "modules.json": moduleList("Transformer", "Pooling", "Normalize"),
  "1_Pooling/config.json": { embedding_dimension: 4, pooling_mode: "mean", include_prompt: true },
  "sentence_bert_config.json": {
    transformer_task: "feature-extraction",
    modality_config: { text: { method: "forward", method_output_name: "last_hidden_state" } },
    module_output_name: "token_embeddings",
  },
  "config_sentence_transformers.json": {
    __version__: { sentence_transformers: "5.3.0" },
    model_type: "SentenceTransformer",
    prompts: { query: "", document: "" },
    default_prompt_name: null,
    similarity_fn_name: "cosine",
  },
  "config.json": TINY_CONFIG,
  "onnx/model.onnx": "",
};

function moduleList(...kinds: string[]): object[] {
  return kinds.map((kind, idx) => {
    const path = kind === "Transformer" ? "" : `${idx}_${kind}`;
    return { idx, name: `${idx}`, path, type: `sentence_transformers.models.${kind}` };
  });
}

let count = 0;
/** @param changes files instead of those of `SAVED`; null: none @returns the folder */
async function folder(changes: Files, name = `model-${count++}`): Promise<string> {
  const directory = join(root, name);
  for (const [path, content] of Object.entries({ ...SAVED, ...changes })) {
    if (content === null) continue;
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), typeof content === "string" ? content : JSON.stringify(content));
  }
  return directory;
}

const pooling = (config: object): Files => ({ "1_Pooling/config.json": config });
const limits = (config: object): Files => ({ "sentence_bert_config.json": config });
const general = (config: object): Files => ({ "config_sentence_transformers.json": config });
const config = (changes: object): Files => ({ "config.json": { ...TINY_CONFIG, ...changes } });

describe("a sentence-transformers folder is honored:", () => {
  const roberta = { model_type: "xlm-roberta", max_position_embeddings: 514, pad_token_id: 1 };
  it.each<[string, Files, object]>([
    ["as saved today", {}, { maxTokens: 8, source: { pooling: "mean" } }],
    [
      "one pooling mode of the old form",
      pooling({ pooling_mode_mean_tokens: true }),
      { source: { pooling: "mean" } },
    ],
    [
      "no files of its own",
      { "modules.json": null, "1_Pooling/config.json": null },
      { source: { pooling: null } },
    ],
    [
      "max_seq_length",
      limits({ max_seq_length: 5, do_lower_case: false }),
      { maxTokens: 5, lowerCase: false },
    ],
    ["max_seq_length null", limits({ max_seq_length: null }), { maxTokens: 8 }],
    ["max_seq_length above the model's positions", limits({ max_seq_length: 512 }), { maxTokens: 8 }],
    ["the tokenizer's limit", { "tokenizer_config.json": { model_max_length: 6 } }, { maxTokens: 6 }],
    ["no limit of the tokenizer", { "tokenizer_config.json": { model_max_length: 1e30 } }, { maxTokens: 8 }],
    ["the 514 positions of RoBERTa, of which 512 are usable", config(roberta), { maxTokens: 512 }],
    [
      "the same with max_seq_length",
      { ...config(roberta), ...limits({ max_seq_length: 514 }) },
      { maxTokens: 512 },
    ],
    [
      "MPNet, without pad_token_id",
      config({ model_type: "mpnet", max_position_embeddings: 514 }),
      { maxTokens: 512 },
    ],
    [
      "an old name of the limits",
      { "sentence_bert_config.json": null, "sentence_roberta_config.json": { max_seq_length: 7 } },
      { maxTokens: 7 },
    ],
    ["do_lower_case", limits({ do_lower_case: true }), { lowerCase: true }],
    [
      "prompts",
      general({ prompts: { query: "q: ", passage: "p: " } }),
      { prompts: { query: "q: ", document: "p: " } },
    ],
    [
      "default_prompt_name",
      general({ prompts: { query: "q: ", any: "any: " }, default_prompt_name: "any" }),
      { prompts: { query: "q: ", document: "any: " } },
    ],
    ["the dot product of normalized vectors", general({ similarity_fn_name: "dot" }), {}],
  ])("%s", async (_, changes, expected) => {
    expect(await directoryManifest(await folder(changes))).toMatchObject(expected);
  });
});

describe("a sentence-transformers folder is refused by name:", () => {
  const weights: Files = { "onnx/model.onnx": null, "model.safetensors": "" };
  it.each<[string, Files, RegExp]>([
    [
      "a dense layer",
      { "modules.json": moduleList("Transformer", "Pooling", "Dense", "Normalize") },
      /modules\.json .*: the module 2_Dense \(sentence_transformers\.models\.Dense\)/,
    ],
    [
      "a dense layer without modules.json",
      { "modules.json": null, "2_Dense/config.json": {} },
      /2_Dense .*dense layer/,
    ],
    [
      "no pooling module",
      { "modules.json": moduleList("Transformer") },
      /modules\.json .*: the modules Transformer;/,
    ],
    [
      "no pooling",
      { ...weights, "modules.json": null, "1_Pooling/config.json": null },
      /1_Pooling\/config\.json is missing/,
    ],
    [
      "CLS",
      pooling({ pooling_mode_cls_token: true, pooling_mode_mean_tokens: false }),
      /pooling_mode_cls_token; embedd/,
    ],
    [
      "CLS of today's form",
      pooling({ pooling_mode: "cls" }),
      /the pooling cls; embedd supports only the mean/,
    ],
    [
      "several modes",
      pooling({ pooling_mode_mean_tokens: true, pooling_mode_max_tokens: true }),
      /pooling_mode_mean_tokens and pooling_mode_max_tokens/,
    ],
    ["several modes of today's form", pooling({ pooling_mode: ["mean", "cls"] }), /the pooling mean and cls/],
    ["no mode", pooling({ pooling_mode_mean_tokens: false }), /no pooling mode/],
    [
      "prompts left out of the mean",
      {
        ...pooling({ pooling_mode: "mean", include_prompt: false }),
        ...general({ prompts: { query: "q: " } }),
      },
      /include_prompt: false/,
    ],
    [
      "the dot product of other vectors",
      { ...general({ similarity_fn_name: "dot" }), "modules.json": moduleList("Transformer", "Pooling") },
      /similarity_fn_name: dot/,
    ],
    ["another similarity", general({ similarity_fn_name: "manhattan" }), /similarity_fn_name: manhattan/],
    ["an unknown default prompt", general({ default_prompt_name: "x" }), /default_prompt_name: x/],
    ["a sparse encoder", general({ model_type: "SparseEncoder" }), /model_type/],
    [
      "arguments of the model",
      limits({ model_args: { trust_remote_code: true } }),
      /model_args \(trust_remote_code\)/,
    ],
    ["another task", limits({ transformer_task: "fill-mask" }), /transformer_task/],
    ["truncation on the left", { "tokenizer_config.json": { truncation_side: "left" } }, /truncation_side/],
    [
      "no token limit",
      config({ max_position_embeddings: undefined }),
      /has no token limit, but embedd needs one/,
    ],
    ["another kind of model", { ...weights, ...config({ model_type: "roberta" }) }, /model_type/],
    [
      "other positions",
      { ...weights, ...config({ position_embedding_type: "relative_key" }) },
      /position_embedding_type/,
    ],
    ["another activation", { ...weights, ...config({ hidden_act: "gelu_new" }) }, /hidden_act/],
    ["a decoder", { ...weights, ...config({ is_decoder: true }) }, /is_decoder/],
    ["code of its own", { ...weights, ...config({ auto_map: { AutoModel: "x" } }) }, /auto_map/],
  ])("%s", async (_, changes, message) => {
    await expect(directoryManifest(await folder(changes))).rejects.toMatchObject({
      kind: "configuration",
      code: "model_config",
      message: expect.stringMatching(message) as unknown,
    });
  });

  it("a graph that pools nothing, where the pooling is unknown; the hint states the mean", async () => {
    const directory = await folder({
      "modules.json": null,
      "1_Pooling/config.json": null,
      "onnx/model.onnx": null,
      ...config({ vocab_size: 103 }),
    });
    const rows = Array.from({ length: 103 }, (_, i) => [i, i % 7, i % 5, i % 3]);
    const weights = { ...tinyWeights(), "embeddings.word_embeddings.weight": rows };
    await writeFile(join(directory, "model.safetensors"), safetensors(weights));
    await cp((await defaultManifest()).tokenizerPath, join(directory, "tokenizer.json"));
    const error = (await createLocalProvider({ modelPath: directory }).catch((e: unknown) => e)) as {
      hint: string;
    };
    expect(error).toMatchObject({ code: "model_config" });
    await promisify(execFile)("sh", ["-c", error.hint]);
    const provider = await createLocalProvider({ modelPath: directory });
    expect(await provider.embed([""])).toHaveLength(1);
    await provider.close();
  });

  it("a graph whose output is no embedding", async () => {
    const graph = new OnnxGraph();
    const ids = graph.input("input_ids", "INT64", ["batch", "sequence"]);
    graph.output("logits", graph.cast(ids, "FLOAT"), "FLOAT", ["batch", "sequence"]);
    const directory = await folder({});
    await writeFile(join(directory, "onnx", "model.onnx"), graph.encode("classifier"));
    await cp((await defaultManifest()).tokenizerPath, join(directory, "tokenizer.json"));
    await expect(createLocalProvider({ modelPath: directory })).rejects.toMatchObject({
      code: "model_config",
      message: expect.stringMatching(/has none of the outputs .*, only logits/) as unknown,
    });
  });
});

it("prompts come before the texts, and a folder of Hugging Face's cache has its model's name", async () => {
  const { source, tokenizerPath } = await defaultManifest();
  if (source.kind !== "safetensors") throw new Error("the built-in model has no safetensors file");
  const prompts = { query: "search_query: ", document: "search_document: " };
  const directory = await folder(
    {
      ...general({ prompts }),
      ...limits({ max_seq_length: 256 }),
      "config.json": null,
      "onnx/model.onnx": null,
    },
    "models--acme--mini--lm/snapshots/0123456789abcdef",
  );
  await cp(source.configPath, join(directory, "config.json"));
  await cp(tokenizerPath, join(directory, "tokenizer.json"));
  await symlink(source.weightsPath, join(directory, "model.safetensors"));
  const [builtIn, model] = await Promise.all([
    createLocalProvider(),
    createLocalProvider({ modelPath: directory }),
  ]);
  expect(model.model).toMatch(/^mini--lm@[0-9a-f]{8}$/);
  const [document] = await model.embed(["a text"]);
  const query = await embedQuery(model, "a text");
  const [wanted = [], wantedQuery = []] = await builtIn.embed([
    "search_document: a text",
    "search_query: a text",
  ]);
  expect(cosine(document ?? [], wanted)).toBeGreaterThanOrEqual(0.99999);
  expect(cosine(query, wantedQuery)).toBeGreaterThanOrEqual(0.99999);
  await Promise.all([builtIn.close(), model.close()]);
});
