/**
 * What the tokenizer is given of a very long text. A tokenizer normalizes all of a text before it cuts
 * it to 256 tokens, at some 100 bytes of memory a character; 10 MB would take seconds and a gigabyte.
 */

/** Texts up to here, in UTF-16 units, are passed on as they are. */
const SHORT_UNITS = 8192;
/** The most that is passed on, in UTF-16 units. */
const MAX_PASSED_UNITS = 16_384;
/** The same for a tokenizer that nothing is known about. */
const MAX_UNKNOWN_UNITS = 65_536;
/** The most that is looked at, in UTF-16 units: 4 million take about 10 ms. */
const MAX_SCANNED_UNITS = 4_000_000;
/** A word of more than 100 characters is one [UNK] (WordPiece's `max_input_chars_per_word`). */
const MAX_WORD_UNITS = 200;
/** A word is at least one token; twice the limit leaves room for special tokens spelled out in a text. */
const WORDS_PER_TOKEN = 2;

type Unit = "word" | "space" | "punctuation" | "other";

/**
 * A prefix of `text` that has the same first `maxTokens` tokens under BERT's normalizer and WordPiece.
 * Runs of whitespace become one, words beyond any vocabulary are shortened, and reading ends when enough
 * words have been seen. The one text that this can change has more than 16,384 characters outside ASCII
 * without enough tokens in them (a wall of combining marks), or 4 million characters of nothing.
 */
export function boundForWordPiece(text: string, maxTokens: number): string {
  if (text.length <= SHORT_UNITS) return text;
  const wanted = maxTokens * WORDS_PER_TOKEN;
  const end = Math.min(text.length, MAX_SCANNED_UNITS);
  let passed = "";
  // text[copiedTo, at) has been read and is still to be passed on.
  let copiedTo = 0;
  let at = 0;
  let words = 0;
  let inWord = false;
  let letters = 0;
  let previous: Unit = "other";
  for (; at < end && words < wanted && passed.length + at - copiedTo < MAX_PASSED_UNITS; at++) {
    const unit = classify(text.charCodeAt(at));
    letters = unit === "word" ? letters + 1 : 0;
    if (unit === "word") inWord = true;
    else if (unit !== "other" && inWord) {
      words++;
      inWord = false;
    }
    if ((unit === "space" && previous === "space") || letters > MAX_WORD_UNITS) {
      if (copiedTo < at) passed += text.slice(copiedTo, at);
      copiedTo = at + 1;
    }
    previous = unit;
  }
  if (copiedTo < at) passed += text.slice(copiedTo, at);
  return at < text.length ? withoutHalfPair(passed) : passed;
}

/** The bound for a tokenizer of another kind: the first 65,536 UTF-16 units. */
export function boundForAny(text: string): string {
  return text.length > MAX_UNKNOWN_UNITS ? withoutHalfPair(text.slice(0, MAX_UNKNOWN_UNITS)) : text;
}

function withoutHalfPair(cut: string): string {
  const last = cut.charCodeAt(cut.length - 1);
  return last >= 0xd800 && last <= 0xdbff ? cut.slice(0, -1) : cut;
}

/** Only what is certain is named: everything outside ASCII, and controls, may be dropped or be a word. */
function classify(code: number): Unit {
  if (code > 0x7e) return "other";
  if (code === 0x20 || code === 0x0a || code === 0x09 || code === 0x0d) return "space";
  if (code < 0x20) return "other";
  const isLetter = (code >= 0x61 && code <= 0x7a) || (code >= 0x41 && code <= 0x5a);
  return isLetter || (code >= 0x30 && code <= 0x39) ? "word" : "punctuation";
}
