/** What a JSON text may hold. Its parser's memory and time follow from these, not only from the number of bytes. */
export interface JsonLimits {
  /** Values in lists, each of which follows a comma. */
  elements: number;
  /** Objects, lists and strings, the names of fields included. */
  nodes: number;
}

export const TOO_LARGE = "an answer larger than the request can need";

/** Answers need 4 levels. */
const MAX_DEPTH = 64;

const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * Checks JSON before it is parsed, as its bytes arrive. For fields of different names, JSON.parse takes 17 times the
 * memory of the text, and 18 MB of them keep it busy for 3 s, in which no timer fires.
 * @returns reads the next bytes, and tells why the text is refused; null: it is fine so far
 */
export function createJsonBounds({ elements, nodes }: JsonLimits): (chunk: Uint8Array) => string | null {
  let depth = 0;
  let commas = 0;
  let opened = 0;
  let inString = false;
  /** The next byte belongs to the backslash before it. */
  let escaped = false;

  /** Within a character of several bytes, UTF-8 has none of the bytes above. @returns where the string or the chunk ends */
  function stringEnd(chunk: Uint8Array, from: number): number {
    for (let i = from; i < chunk.length; i++) {
      if (escaped) escaped = false;
      else if (chunk[i] === BACKSLASH) escaped = true;
      else if (chunk[i] === QUOTE) {
        inString = false;
        return i + 1;
      }
    }
    return chunk.length;
  }

  return (chunk) => {
    // Locals: a variable of the closure takes three times as long.
    let [level, separators, starts] = [depth, commas, opened];
    for (let i = 0; i < chunk.length; i++) {
      if (inString) i = stringEnd(chunk, i);
      const byte = chunk[i] ?? 0;
      // Digits, signs and points, in one comparison.
      if (byte > COMMA && byte < OPEN_LIST) continue;
      if (byte === COMMA) separators++;
      else if (byte === QUOTE) {
        inString = true;
        starts++;
      } else if (byte === OPEN_LIST || byte === OPEN_OBJECT) {
        starts++;
        if (++level > MAX_DEPTH) return "an answer that is nested too deeply";
      } else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) level--;
    }
    [depth, commas, opened] = [level, separators, starts];
    return commas > elements || opened > nodes ? TOO_LARGE : null;
  };
}
