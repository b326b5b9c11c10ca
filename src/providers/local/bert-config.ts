import { readFile } from "node:fs/promises";
import { z } from "zod";
import { configurationError, messageOf } from "../../errors.js";

const positive = z.number().int().positive();

/** The parts of a Hugging Face `config.json` that the graph needs, with that file's names. */
const bertConfig = z
  .object({
    model_type: z.literal("bert"),
    hidden_act: z.literal("gelu"),
    position_embedding_type: z.literal("absolute").default("absolute"),
    hidden_size: positive,
    intermediate_size: positive,
    num_attention_heads: positive,
    num_hidden_layers: positive,
    max_position_embeddings: positive,
    type_vocab_size: positive,
    vocab_size: positive,
    layer_norm_eps: z.number().positive(),
  })
  .refine((config) => config.hidden_size % config.num_attention_heads === 0, {
    message: "hidden_size is not a multiple of num_attention_heads",
  });

export type BertConfig = z.infer<typeof bertConfig>;

/** @throws EmbeddError `configuration`/`model_config` when the file is missing or describes another kind of model */
export function readBertConfig(path: string): Promise<BertConfig> {
  return readJson(path, bertConfig);
}

/**
 * Reads a JSON file and checks it against a schema.
 * @throws EmbeddError `configuration`/`model_config`, naming the file
 */
export async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw configurationError("model_config", `cannot read ${path}: ${messageOf(error)}`);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw configurationError("model_config", `${path} is not supported:\n${z.prettifyError(parsed.error)}`);
}
