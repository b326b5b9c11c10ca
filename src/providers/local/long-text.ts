/**
 * Shortens very long texts before the tokenizer sees them. A tokenizer normalizes the whole text before it
 * truncates it to 256 tokens, with about 100 bytes of memory per character: 10 MB of text would take seconds and
 * a gigabyte.
 */

/** Texts up to this length, in UTF-16 units, stay unchanged. */
const SHORT_UNITS = 8192;
/** The most that the tokenizer gets, in UTF-16 units. */
const MAX_KEPT_UNITS = 16_384;
/** The same for an unknown kind of tokenizer. */
const MAX_UNKNOWN_UNITS = 65_536;
/** The most that is scanned, in UTF-16 units: 4 million take about 10 ms. */
const MAX_SCANNED_UNITS = 4_000_000;
/** A word of more than 100 characters is one [UNK] (WordPiece's `max_input_chars_per_word`). */
const MAX_WORD_UNITS = 200;
/** A word is at least one token; the factor 2 leaves room for special tokens spelled out in a text. */
const WORDS_PER_TOKEN = 2;

export interface Bounded {
  text: string;
  /** Part of the text was left out that could have become tokens. */
  cut: boolean;
}

type Unit = "word" | "space" | "punctuation" | "other";

/**
 * Shortens `text` so that its first `maxTokens` tokens stay the same under BERT's normalizer and WordPiece.
 * Collapses runs of whitespace, shortens words beyond any vocabulary, and stops after enough words.
 * The tokens can change only if more than 16,384 characters outside ASCII yield too few tokens (a wall of
 * combining marks), or if 4 million characters are blank.
 */
export function boundForWordPiece(text: string, maxTokens: number): Bounded {
  if (text.length <= SHORT_UNITS) return { text, cut: false };
  const wanted = maxTokens * WORDS_PER_TOKEN;
  const end = Math.min(text.length, MAX_SCANNED_UNITS);
  let kept = "";
  // text[copiedTo, at) has been scanned but not copied yet.
  let copiedTo = 0;
  let at = 0;
  let words = 0;
  let inWord = false;
  let letters = 0;
  let previous: Unit = "other";
  for (; at < end && words < wanted && kept.length + at - copiedTo < MAX_KEPT_UNITS; at++) {
    const unit = classify(text.charCodeAt(at));
    letters = unit === "word" ? letters + 1 : 0;
    if (unit === "word") inWord = true;
    else if (unit !== "other" && inWord) {
      words++;
      inWord = false;
    }
    if ((unit === "space" && previous === "space") || letters > MAX_WORD_UNITS) {
      if (copiedTo < at) kept += text.slice(copiedTo, at);
      copiedTo = at + 1;
    }
    previous = unit;
  }
  if (copiedTo < at) kept += text.slice(copiedTo, at);
  const cut = at < text.length;
  return { text: cut ? withoutHalfPair(kept) : kept, cut };
}

/** For tokenizers of any other kind: keeps the first 65,536 UTF-16 units. */
export function boundForAny(text: string): Bounded {
  const cut = text.length > MAX_UNKNOWN_UNITS;
  return { text: cut ? withoutHalfPair(text.slice(0, MAX_UNKNOWN_UNITS)) : text, cut };
}

function withoutHalfPair(cut: string): string {
  const last = cut.charCodeAt(cut.length - 1);
  return last >= 0xd800 && last <= 0xdbff ? cut.slice(0, -1) : cut;
}

/** Classifies ASCII only. Controls and all else are "other": the normalizer may drop them or join them to a word. */
function classify(code: number): Unit {
  if (code > 0x7e) return "other";
  if (code === 0x20 || code === 0x0a || code === 0x09 || code === 0x0d) return "space";
  if (code < 0x20) return "other";
  const isLetter = (code >= 0x61 && code <= 0x7a) || (code >= 0x41 && code <= 0x5a);
  return isLetter || (code >= 0x30 && code <= 0x39) ? "word" : "punctuation";
}
