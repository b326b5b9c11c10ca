import { z } from "zod";
import { readJson } from "./json-file.js";

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
    is_decoder: z.literal(false).default(false),
    /** Names the model's own Python code. */
    auto_map: z.undefined({ error: "the model has code of its own" }).optional(),
  })
  .refine((config) => config.hidden_size % config.num_attention_heads === 0, {
    message: "hidden_size is not a multiple of num_attention_heads",
  });

export type BertConfig = z.infer<typeof bertConfig>;

/** @throws EmbeddError `configuration`/`model_config` when the file is missing or describes another kind of model */
export function readBertConfig(path: string): BertConfig {
  return readJson(path, bertConfig);
}
