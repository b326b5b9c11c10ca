import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

const SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
const CHARACTERS = Array.from("abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-_()");
const VOCABULARY = [...SPECIAL, ...CHARACTERS, ...CHARACTERS.map((character) => `##${character}`)];

const DIMENSIONS = 384;
const WIDE = 8;
const CONFIG = {
  model_type: "bert",
  hidden_act: "gelu",
  hidden_size: DIMENSIONS,
  intermediate_size: WIDE,
  num_attention_heads: 12,
  num_hidden_layers: 1,
  max_position_embeddings: 512,
  type_vocab_size: 2,
  vocab_size: VOCABULARY.length,
  layer_norm_eps: 1e-12,
};

const TOKENIZER = {
  version: "1.0",
  added_tokens: SPECIAL.map((content, id) => ({
    ...{ id, content, special: true },
    ...{ single_word: false, lstrip: false, rstrip: false, normalized: false },
  })),
  normalizer: {
    type: "BertNormalizer",
    ...{ clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
  },
  pre_tokenizer: { type: "BertPreTokenizer" },
  post_processor: {
    type: "BertProcessing",
    sep: ["[SEP]", SPECIAL.indexOf("[SEP]")],
    cls: ["[CLS]", SPECIAL.indexOf("[CLS]")],
  },
  model: {
    type: "WordPiece",
    unk_token: "[UNK]",
    continuing_subword_prefix: "##",
    max_input_chars_per_word: 100,
    vocab: Object.fromEntries(VOCABULARY.map((token, id) => [token, id])),
  },
};

/**
 * Writes a BERT of one layer that knows characters and no words: 384 dimensions and 256 tokens a text, as the built-in
 * model, but a start in a third of the time. Its vectors mean nothing.
 */
export async function writeSmallModel(folder: string): Promise<void> {
  await mkdir(join(folder, "1_Pooling"), { recursive: true });
  await Promise.all([
    writeFile(join(folder, "model.safetensors"), weights()),
    writeFile(join(folder, "config.json"), JSON.stringify(CONFIG)),
    writeFile(join(folder, "tokenizer.json"), JSON.stringify(TOKENIZER)),
    writeFile(join(folder, "sentence_bert_config.json"), JSON.stringify({ max_seq_length: 256 })),
    writeFile(join(folder, "1_Pooling", "config.json"), JSON.stringify({ pooling_mode: "mean" })),
  ]);
}

/** A safetensors file of float32 tensors. */
function weights(): Buffer {
  const shapes = tensorShapes();
  const header: Record<string, object> = {};
  let end = 0;
  for (const [name, shape] of shapes) {
    const begin = end;
    end += 4 * shape.reduce((product, size) => product * size);
    header[name] = { dtype: "F32", shape, data_offsets: [begin, end] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  const values = Float32Array.from({ length: end / 4 }, (_, i) => Math.sin(i * 12.9898) * 0.1);
  return Buffer.concat([prefix, json, Buffer.from(values.buffer)]);
}

function tensorShapes(): [string, number[]][] {
  const dense = (name: string, inSize: number, outSize: number): [string, number[]][] => [
    [`${name}.weight`, [outSize, inSize]],
    [`${name}.bias`, [outSize]],
  ];
  const norm = (block: string): [string, number[]][] => [
    [`${block}.LayerNorm.weight`, [DIMENSIONS]],
    [`${block}.LayerNorm.bias`, [DIMENSIONS]],
  ];
  const layer = "encoder.layer.0";
  return [
    ["embeddings.word_embeddings.weight", [VOCABULARY.length, DIMENSIONS]],
    ["embeddings.position_embeddings.weight", [CONFIG.max_position_embeddings, DIMENSIONS]],
    ["embeddings.token_type_embeddings.weight", [CONFIG.type_vocab_size, DIMENSIONS]],
    ...norm("embeddings"),
    ...["self.query", "self.key", "self.value", "output.dense"].flatMap((part) =>
      dense(`${layer}.attention.${part}`, DIMENSIONS, DIMENSIONS),
    ),
    ...norm(`${layer}.attention.output`),
    ...dense(`${layer}.intermediate.dense`, DIMENSIONS, WIDE),
    ...dense(`${layer}.output.dense`, WIDE, DIMENSIONS),
    ...norm(`${layer}.output`),
  ];
}
