import { setImmediate as turn } from "node:timers/promises";

/** Counts tokens and truncates texts that are too long. */
export interface TokenCounter {
  /**
   * Truncates each text to at most `limit` tokens (null: no limit). Yields to the event loop every few
   * milliseconds.
   * @throws the signal's reason when aborted
   */
  fit(texts: readonly string[], limit: number | null, signal?: AbortSignal): Promise<FittedText[]>;
}

export interface FittedText {
  text: string;
  tokens: number;
  /** Whether the text was truncated. */
  cut: boolean;
}

/** The longest time to block the event loop. */
const SLICE_MS = 8;
/** Texts are counted in pieces of about this many UTF-16 units. */
const PIECE_UNITS = 512;
/** The longest run without spaces, such as Chinese or base64: byte pair encoding takes quadratic time on one. */
const RUN_UNITS = 128;

/**
 * Loads OpenAI's cl100k_base. Texts are counted in pieces that end before the space of the next word, where no
 * token spans the boundary. Runs of more than 128 units without a space are split elsewhere, which sometimes
 * counts one token too many.
 */
export async function loadCl100k(): Promise<TokenCounter> {
  // Imported on demand: it takes 250 ms and 40 MB.
  const { countTokens } = await import("gpt-tokenizer/encoding/cl100k_base");
  // A special token's name in a text counts as ordinary text.
  const plain = { allowedSpecial: new Set<string>(), disallowedSpecial: new Set<string>() };
  return counter((piece) => countTokens(piece, plain));
}

/**
 * Estimates for models with another tokenizer: one token per 3 bytes of UTF-8. That overestimates ordinary
 * text in most languages (English: 4 to 5 bytes per token), so requests stay below the limit.
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

/** The end of the piece that starts at `from`. */
function pieceEnd(text: string, from: number): number {
  const farthest = from + PIECE_UNITS;
  if (farthest >= text.length && text.length - from <= RUN_UNITS) return text.length;
  let end = from;
  for (;;) {
    const next = wordBoundary(text, end + 1, Math.min(end + RUN_UNITS, text.length));
    if (next === null) {
      // The text before the run becomes its own piece.
      return end > from ? end : wholeCharacter(text, Math.min(from + RUN_UNITS, text.length));
    }
    if (next >= text.length || next > farthest) return next;
    end = next;
  }
}

/** The first offset in [from, to] of a single space before a word, or the end of the text; null: none. */
function wordBoundary(text: string, from: number, to: number): number | null {
  for (let at = from; at <= to; at++) {
    if (at >= text.length) return text.length;
    if (text[at] === " " && !isSpace(text.charCodeAt(at - 1)) && !isSpace(text.charCodeAt(at + 1))) return at;
  }
  return null;
}

/** White space, or NaN: the end of the text. */
function isSpace(code: number): boolean {
  if (Number.isNaN(code) || code <= 0x20) return true;
  return code > 0x7f && /\s/.test(String.fromCharCode(code));
}

function wholeCharacter(text: string, end: number): number {
  const code = text.charCodeAt(end - 1);
  return end < text.length && code >= 0xd800 && code <= 0xdbff ? end - 1 : end;
}

/** The length, in UTF-16 units, of the longest prefix of whole characters with at most `tokens` tokens. */
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
