import type { Tokenizer as NativeTokenizer } from "tokenizers";
import { configurationError, messageOf } from "../../errors.js";
import { readSmallFile } from "../../small-file.js";
import { boundForAny, boundForWordPiece } from "./long-text.js";
import type { Bounded } from "./long-text.js";
import { importNative } from "./native-library.js";
import type { Prompts } from "./sentence-transformers.js";

export interface Encoded {
  /** Special tokens included, at most `maxTokens`, not padded. */
  ids: Int32Array;
  /** The text has more tokens than that. */
  cut: boolean;
}

export interface Tokenizer {
  /**
   * Encodes each text, with the model's prompt for the purpose before it. Runs on the thread pool, one group of texts
   * at a time.
   * @param purpose what the texts are for. Default: "document"
   * @throws the signal's reason when aborted
   */
  encode(texts: readonly string[], signal?: AbortSignal, purpose?: keyof Prompts): Promise<Encoded[]>;
}

/** The limits of one call to the native library, which bound its memory. */
const GROUP_TEXTS = 32;
const GROUP_UNITS = 65_536;

/** Several times the largest multilingual vocabulary. */
const MOST_BYTES = 256 * 2 ** 20;

/**
 * Any kind of `tokenizer.json` gives the same tokens as in Python, which uses the same library.
 * @param lowerCase lower-cases texts before they are tokenized
 * @throws EmbeddError `configuration`/`model_tokenizer` when the file is missing or not a tokenizer;
 *   `configuration`/`native_library` when the library cannot be loaded
 */
export async function loadTokenizer(
  path: string,
  { maxTokens, lowerCase, prompts }: { maxTokens: number; lowerCase: boolean; prompts: Prompts },
): Promise<Tokenizer> {
  const { Tokenizer } = await importNative("tokenizers", () => import("tokenizers"));
  try {
    const json = readSmallFile(path, MOST_BYTES).text;
    const native = Tokenizer.fromString(json);
    // Overrides the file's own settings, such as 128 tokens, always padded.
    native.setTruncation(maxTokens);
    native.disablePadding();
    const bound = isWordPiece(JSON.parse(json))
      ? (text: string): Bounded => boundForWordPiece(text, maxTokens)
      : boundForAny;
    const parts = { native, bound, maxTokens, lowerCase };
    return {
      encode: (texts, signal, purpose = "document") => {
        const prompt = prompts[purpose];
        return encode(parts, prompt === "" ? texts : texts.map((text) => prompt + text), signal);
      },
    };
  } catch (error) {
    throw configurationError("model_tokenizer", `cannot use the tokenizer ${path}: ${messageOf(error)}`);
  }
}

interface Parts {
  native: NativeTokenizer;
  bound: (text: string) => Bounded;
  maxTokens: number;
  lowerCase: boolean;
}

async function encode(
  { native, bound, maxTokens, lowerCase }: Parts,
  texts: readonly string[],
  signal: AbortSignal | undefined,
): Promise<Encoded[]> {
  const encoded: Encoded[] = [];
  let group: Bounded[] = [];
  let units = 0;
  const flush = async (): Promise<void> => {
    signal?.throwIfAborted();
    const encodings = await native.encodeBatch(group.map(({ text }) => text));
    encodings.forEach((encoding, i) => {
      const ids = Int32Array.from(encoding.getIds());
      const cut = group[i]?.cut === true || (ids.length >= maxTokens && encoding.getOverflowing().length > 0);
      encoded.push({ ids, cut });
    });
    group = [];
    units = 0;
  };
  for (const text of texts) {
    const bounded = bound(text);
    if (lowerCase) bounded.text = bounded.text.toLowerCase();
    if (group.length > 0 && (group.length === GROUP_TEXTS || units + bounded.text.length > GROUP_UNITS)) {
      await flush();
    }
    group.push(bounded);
    units += bounded.text.length;
  }
  if (group.length > 0) await flush();
  return encoded;
}

/** Whether `boundForWordPiece` is exact: BERT's normalizer, word splitting and WordPiece. */
function isWordPiece(tokenizer: unknown): boolean {
  const types = ["normalizer", "pre_tokenizer", "model"].map((part) => {
    const stage: unknown = Reflect.get(Object(tokenizer), part);
    return Reflect.get(Object(stage), "type") as unknown;
  });
  return types.join() === "BertNormalizer,BertPreTokenizer,WordPiece";
}
