import { configurationError, EmbeddError } from "../../errors.js";
import type { ModelManifest } from "./manifest.js";
import type { InferenceSession } from "./session.js";
import type { Tokenizer } from "./tokenizer.js";

/** The memory for attention grows with the square of the length. */
const MAX_PROBE_TOKENS = 1024;

/**
 * Computes the vector of a long text, made of one of the tokenizer's special tokens, so that a model whose files
 * disagree is refused at start rather than at some row.
 * @throws EmbeddError `configuration`/`model_config` if the model cannot read that many tokens, its vectors have other
 *   dimensions, or its token vectors cannot be pooled
 */
export async function probe(
  directory: string,
  {
    tokenizer,
    session,
    manifest: { dimensions, maxTokens },
  }: { tokenizer: Tokenizer; session: InferenceSession; manifest: ModelManifest },
): Promise<void> {
  const [blank] = await tokenizer.encode([""]);
  const special = blank?.ids[0] ?? 0;
  const length = Math.min(maxTokens, MAX_PROBE_TOKENS);
  const values = await session
    .run(new Int32Array(length).fill(special), Int32Array.of(length), length)
    .catch((error: unknown) => {
      if (!(error instanceof EmbeddError) || error.code !== "local_inference_failed") throw error;
      throw configurationError(
        "model_config",
        `${directory} cannot embed a text of ${length} times token ${special}: ${error.message}\n` +
          "  its tokenizer.json must belong to the model, and max_seq_length in sentence_bert_config.json must not " +
          "exceed what the model reads",
      );
    });
  if (values.length === dimensions) return;
  throw configurationError(
    "model_config",
    `${directory} returns vectors of ${values.length} dimensions, but its config.json says ${dimensions}`,
  );
}
