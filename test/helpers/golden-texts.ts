/** The example of the model's card: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 */
export const FIRST_SENTENCE = "This is an example sentence";
export const SECOND_SENTENCE = "Each sentence is converted";
/** sentence-transformers' published values for the first components of the first sentence. */
export const FIRST_COMPONENTS = [0.0677, 0.0635, 0.0487, 0.0793, 0.0374, 0.0027];
export const COSINE_OF_BOTH = 0.4046;

/** Texts of very different length and script, for batches that need much padding. */
export const MIXED_TEXTS = [
  "",
  "a",
  "機械学習モデルは文章をベクトルに変換します。",
  "🚀🔥 emoji 👩‍👩‍👧‍👦 family",
  "Привет, мир",
  "The quick brown fox jumps over the lazy dog. ".repeat(12),
  "SELECT id, body FROM notes WHERE embedding IS NULL ORDER BY id LIMIT 100;",
  "word ".repeat(400),
];

export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let dot = 0;
  let normA = 0;
  let normB = 0;
  for (let i = 0; i < a.length; i++) {
    const x = a[i] ?? NaN;
    const y = b[i] ?? NaN;
    dot += x * y;
    normA += x * x;
    normB += y * y;
  }
  return dot / Math.sqrt(normA * normB);
}
