import { join } from "node:path";
import { z } from "zod";
import { configurationError } from "../../errors.js";
import { exists, isFolder, readJson } from "./json-file.js";

/** What the files of sentence-transformers say about a model. All of it is honored or refused by name. */
export interface SentenceTransformer {
  /** The folder of `config.json` and `tokenizer.json`. */
  directory: string;
  /** How token vectors become one vector; null: the files do not say. */
  pooling: "mean" | null;
  /** Maximum tokens of a text, special tokens included; null: the model's own limit. */
  maxTokens: number | null;
  /** Texts are lower-cased before they are tokenized. */
  lowerCase: boolean;
  prompts: Prompts;
}

/** What is put before each text. */
export interface Prompts {
  query: string;
  document: string;
}

const modules = z.array(z.object({ path: z.string(), type: z.string() }));

const poolingConfig = z.looseObject({
  pooling_mode: z.union([z.string(), z.array(z.string())]).optional(),
  include_prompt: z.boolean().default(true),
});

const object = z.record(z.string(), z.unknown()).nullish();
const limits = z.object({
  max_seq_length: z.number().int().positive().nullish(),
  do_lower_case: z.boolean().nullish(),
  transformer_task: z.literal("feature-extraction").nullish(),
  module_output_name: z.literal("token_embeddings").nullish(),
  model_args: object,
  tokenizer_args: object,
  config_args: object,
});
/** The names under which sentence-transformers has saved it, newest first. */
const LIMITS_FILES = ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"].map(
  (kind) => `sentence_${kind}_config.json`,
);

const general = z.object({
  model_type: z.literal("SentenceTransformer").nullish(),
  prompts: z.record(z.string(), z.string()).nullish(),
  default_prompt_name: z.string().nullish(),
  similarity_fn_name: z.enum(["cosine", "dot", "euclidean", "manhattan"]).nullish(),
});

/**
 * Reads `modules.json`, the pooling module's `config.json`, `sentence_bert_config.json` and
 * `config_sentence_transformers.json`, as far as they exist.
 * @throws EmbeddError `configuration`/`model_config` that names the file and what embedd cannot do
 */
export async function readSentenceTransformer(root: string): Promise<SentenceTransformer> {
  const { transformer, poolingPath, normalizes } = await readModules(root);
  const directory = join(root, transformer);
  const { pooling, includePrompt } = await readPooling(join(root, poolingPath, "config.json"));
  const { maxTokens, lowerCase } = await readLimits(directory);
  const prompts = await readGeneral(join(root, "config_sentence_transformers.json"), normalizes);
  if (!includePrompt && (prompts.query !== "" || prompts.document !== "")) {
    throw refused(
      join(root, poolingPath, "config.json"),
      "include_prompt: false, which leaves a prompt out of the mean",
    );
  }
  return { directory, pooling, maxTokens, lowerCase, prompts };
}

interface Modules {
  transformer: string;
  poolingPath: string;
  /** null: there is no list of modules. */
  normalizes: boolean | null;
}

/** A transformer, a pooling and perhaps a normalization: embedd computes these, in this order. */
async function readModules(root: string): Promise<Modules> {
  const path = join(root, "modules.json");
  if (!(await exists(path))) {
    for (const folder of ["2_Dense", "3_Dense"]) {
      if (await isFolder(join(root, folder)))
        throw refused(join(root, folder), "a dense layer after the pooling");
    }
    return { transformer: "", poolingPath: "1_Pooling", normalizes: null };
  }
  const list = readJson(path, modules).map(({ type, path: folder }) => ({
    kind: type.slice(type.lastIndexOf(".") + 1),
    type,
    folder,
  }));
  const other = list.find(({ kind }) => !["Transformer", "Pooling", "Normalize"].includes(kind));
  if (other) throw refused(path, `the module ${other.folder} (${other.type})`);
  const [transformer, pooling, normalize] = list;
  const order = list.map(({ kind }) => kind).join(", ");
  if (!transformer || !pooling || !/^Transformer, Pooling(, Normalize)?$/.test(order)) {
    throw refused(path, `the modules ${order}; embedd needs Transformer, Pooling and optionally Normalize`);
  }
  return {
    transformer: transformer.folder,
    poolingPath: pooling.folder,
    normalizes: normalize !== undefined,
  };
}

async function readPooling(path: string): Promise<{ pooling: "mean" | null; includePrompt: boolean }> {
  if (!(await exists(path))) return { pooling: null, includePrompt: true };
  const config = readJson(path, poolingConfig);
  const flags = Object.entries(config).flatMap(([name, value]) =>
    name.startsWith("pooling_mode_") && value === true ? [name] : [],
  );
  // Newer versions write one string, or a list of them.
  const modes = config.pooling_mode === undefined ? flags : [config.pooling_mode].flat();
  if (modes.length !== 1 || !["mean", "pooling_mode_mean_tokens"].includes(modes[0] ?? "")) {
    const said = modes.length === 0 ? "no pooling mode" : `the pooling ${modes.join(" and ")}`;
    throw refused(path, `${said}; embedd supports only the mean (pooling_mode_mean_tokens)`);
  }
  return { pooling: "mean", includePrompt: config.include_prompt };
}

async function readLimits(directory: string): Promise<{ maxTokens: number | null; lowerCase: boolean }> {
  for (const name of LIMITS_FILES) {
    const path = join(directory, name);
    if (!(await exists(path))) continue;
    const config = readJson(path, limits);
    for (const key of ["model_args", "tokenizer_args", "config_args"] as const) {
      const names = Object.keys(config[key] ?? {});
      if (names.length > 0) throw refused(path, `${key} (${names.join(", ")})`);
    }
    return { maxTokens: config.max_seq_length ?? null, lowerCase: config.do_lower_case ?? false };
  }
  return { maxTokens: null, lowerCase: false };
}

/** embedd normalizes every vector and compares by cosine. For vectors of length 1, others of the functions rank alike. */
async function readGeneral(path: string, normalizes: boolean | null): Promise<Prompts> {
  if (!(await exists(path))) return { query: "", document: "" };
  const config = readJson(path, general);
  const similarity = config.similarity_fn_name ?? "cosine";
  const ranksAlike = similarity === "cosine" || (similarity !== "manhattan" && normalizes === true);
  if (!ranksAlike)
    throw refused(path, `similarity_fn_name: ${similarity}; embedd normalizes vectors, for the cosine`);
  const prompts = config.prompts ?? {};
  const name = config.default_prompt_name ?? undefined;
  const fallback = name === undefined ? "" : prompts[name];
  if (fallback === undefined)
    throw refused(path, `default_prompt_name: ${name ?? ""}, which is not in its prompts`);
  return {
    query: prompts["query"] ?? fallback,
    document: prompts["document"] ?? prompts["passage"] ?? prompts["corpus"] ?? fallback,
  };
}

function refused(path: string, what: string): Error {
  return configurationError("model_config", `${path} is not supported: ${what}`);
}
