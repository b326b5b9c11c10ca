import { readFile } from "node:fs/promises";
import { Tokenizer as NativeTokenizer } from "tokenizers";
import { configurationError, messageOf } from "../../errors.js";
import { boundForAny, boundForWordPiece } from "./long-text.js";

export interface Tokenizer {
  /**
   * Returns the token ids of each text: special tokens included, at most `maxTokens`, not padded.
   * Runs on the thread pool, one group of texts at a time.
   * @throws the signal's reason when aborted
   */
  encode(texts: readonly string[], signal?: AbortSignal): Promise<Int32Array[]>;
}

/** The limits of one call to the native library, which bound its memory. */
const GROUP_TEXTS = 32;
const GROUP_UNITS = 65_536;

/** @throws EmbeddError `configuration`/`model_tokenizer` when the file is missing or not a tokenizer */
export async function loadTokenizer(path: string, maxTokens: number): Promise<Tokenizer> {
  try {
    const json = await readFile(path, "utf8");
    const native = NativeTokenizer.fromString(json);
    // Overrides the file's own settings, such as 128 tokens, always padded.
    native.setTruncation(maxTokens);
    native.disablePadding();
    const bound = isWordPiece(JSON.parse(json))
      ? (text: string): string => boundForWordPiece(text, maxTokens)
      : boundForAny;
    return { encode: (texts, signal) => encode(native, texts, bound, signal) };
  } catch (error) {
    throw configurationError("model_tokenizer", `cannot use the tokenizer ${path}: ${messageOf(error)}`);
  }
}

async function encode(
  native: NativeTokenizer,
  texts: readonly string[],
  bound: (text: string) => string,
  signal: AbortSignal | undefined,
): Promise<Int32Array[]> {
  const ids: Int32Array[] = [];
  let group: string[] = [];
  let units = 0;
  const flush = async (): Promise<void> => {
    signal?.throwIfAborted();
    const encodings = await native.encodeBatch(group);
    for (const encoding of encodings) ids.push(Int32Array.from(encoding.getIds()));
    group = [];
    units = 0;
  };
  for (const text of texts) {
    const bounded = bound(text);
    if (group.length > 0 && (group.length === GROUP_TEXTS || units + bounded.length > GROUP_UNITS)) {
      await flush();
    }
    group.push(bounded);
    units += bounded.length;
  }
  if (group.length > 0) await flush();
  return ids;
}

/** Whether `boundForWordPiece` is exact: BERT's normalizer, word splitting and WordPiece. */
function isWordPiece(tokenizer: unknown): boolean {
  const types = ["normalizer", "pre_tokenizer", "model"].map((part) => {
    const stage: unknown = Reflect.get(Object(tokenizer), part);
    return Reflect.get(Object(stage), "type") as unknown;
  });
  return types.join() === "BertNormalizer,BertPreTokenizer,WordPiece";
}
