import { setImmediate as turn } from "node:timers/promises";

/** Counts the tokens of texts, and cuts those that are too long. */
export interface TokenCounter {
  /**
   * At most `limit` tokens of each text; null: no limit. Gives way to other work every few milliseconds.
   * @throws the signal's reason when aborted
   */
  fit(texts: readonly string[], limit: number | null, signal?: AbortSignal): Promise<FittedText[]>;
}

export interface FittedText {
  text: string;
  tokens: number;
  /** Something was cut off. */
  cut: boolean;
}

/** How long the main loop is kept at a time. */
const SLICE_MS = 8;
/** Pieces of about this many UTF-16 units are counted at once. */
const PIECE_UNITS = 512;
/** Byte pair encoding takes quadratic time of a run without spaces, such as Chinese or base64. */
const RUN_UNITS = 128;

/**
 * OpenAI's cl100k_base. A text is counted in pieces that end before the space of a word, where the encoding
 * never joins anything; only runs of more than 128 units without one are cut elsewhere, which counts a token too many now and then.
 */
export async function loadCl100k(): Promise<TokenCounter> {
  // 250 ms and 40 MB, so not before it is needed.
  const { countTokens } = await import("gpt-tokenizer/encoding/cl100k_base");
  // The names of special tokens are text like any other.
  const plain = { allowedSpecial: new Set<string>(), disallowedSpecial: new Set<string>() };
  return counter((piece) => countTokens(piece, plain));
}

/**
 * For models of other tokenizers: a token for every 3 bytes of UTF-8, more than such a model makes of
 * ordinary text in most languages (English: 4 to 5 bytes a token), so a request rather holds less than it may.
 */
export function estimatingCounter(): TokenCounter {
  return counter((piece) => Math.ceil(Buffer.byteLength(piece) / 3));
}

function counter(count: (piece: string) => number): TokenCounter {
  return {
    async fit(texts, limit, signal) {
      const fitted: FittedText[] = [];
      let began = performance.now();
      for (const text of texts) {
        let tokens = 0;
        let at = 0;
        while (at < text.length) {
          const end = pieceEnd(text, at);
          const more = count(text.slice(at, end));
          if (limit !== null && tokens + more > limit) {
            at += longestPrefix(text.slice(at, end), limit - tokens, count);
            tokens = limit;
            break;
          }
          tokens += more;
          at = end;
          if (performance.now() - began > SLICE_MS) {
            await turn();
            signal?.throwIfAborted();
            began = performance.now();
          }
        }
        fitted.push({ text: at < text.length ? text.slice(0, at) : text, tokens, cut: at < text.length });
      }
      return fitted;
    },
  };
}

/** Where the piece that begins at `from` ends. */
function pieceEnd(text: string, from: number): number {
  const farthest = from + PIECE_UNITS;
  if (farthest >= text.length && text.length - from <= RUN_UNITS) return text.length;
  let end = from;
  for (;;) {
    const next = wordBoundary(text, end + 1, Math.min(end + RUN_UNITS, text.length));
    if (next === null) {
      // What came before the run is a piece of its own.
      return end > from ? end : wholeCharacter(text, Math.min(from + RUN_UNITS, text.length));
    }
    if (next >= text.length || next > farthest) return next;
    end = next;
  }
}

/** The first place in (from, to] where a space that a word follows begins, or the text ends; null: none. */
function wordBoundary(text: string, from: number, to: number): number | null {
  for (let at = from; at <= to; at++) {
    if (at >= text.length) return text.length;
    if (text[at] === " " && !isSpace(text.charCodeAt(at - 1)) && !isSpace(text.charCodeAt(at + 1))) return at;
  }
  return null;
}

/** Any white space, or the end. */
function isSpace(code: number): boolean {
  if (Number.isNaN(code) || code <= 0x20) return true;
  return code > 0x7f && /\s/.test(String.fromCharCode(code));
}

function wholeCharacter(text: string, end: number): number {
  const code = text.charCodeAt(end - 1);
  return end < text.length && code >= 0xd800 && code <= 0xdbff ? end - 1 : end;
}

/** The most UTF-16 units of a piece that are at most so many tokens, whole characters only. */
function longestPrefix(piece: string, tokens: number, count: (text: string) => number): number {
  const characters = Array.from(piece);
  const prefix = (length: number): string => characters.slice(0, length).join("");
  let fits = 0;
  let tooLong = characters.length;
  while (tooLong - fits > 1) {
    const middle = (fits + tooLong) >> 1;
    if (count(prefix(middle)) <= tokens) fits = middle;
    else tooLong = middle;
  }
  return prefix(fits).length;
}
