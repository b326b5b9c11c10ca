import { createHash } from "node:crypto";
import type { EmbeddError } from "../../errors.js";
import type { Input } from "./split-requests.js";

/**
 * Texts that were on their way when the server went away: one of them may have ended it. A server that needs seconds to
 * start again looks like one that is down, so no single call can tell which text it was. Each time that such texts are
 * sent again, they are sent in requests of half the size, until one stands alone.
 */
export interface Suspects {
  /** Takes the suspected texts out, and makes the next requests of them. */
  split(inputs: readonly Input[]): {
    clean: Input[];
    suspected: Input[][];
    judged: { input: Input; error: EmbeddError }[];
  };
  /** The server went away during a request. @returns how often it did so at the first of the texts alone */
  wentAway(texts: readonly string[]): number;
  /** The server cannot embed this text. Remembered until `cleared`, for the server is away when the others' turn comes. */
  judge(text: string, error: EmbeddError): void;
  /** The texts need no more requests. */
  cleared(texts: readonly string[]): void;
}

interface Suspect {
  /** Texts of the smallest request with it during which the server went away. */
  size: number;
  alone: number;
  verdict?: EmbeddError;
}

const MAX_SUSPECTS = 16_384;

export function createSuspects(): Suspects {
  const suspects = new Map<string, Suspect>();
  // The hash stands for the text, which may be long.
  const keyOf = (text: string): string => createHash("sha256").update(text).digest("base64");

  return {
    split(inputs) {
      if (suspects.size === 0) return { clean: [...inputs], suspected: [], judged: [] };
      const clean: Input[] = [];
      const suspected: Input[][] = [];
      const judged: { input: Input; error: EmbeddError }[] = [];
      let size = 0;
      for (const input of inputs) {
        const suspect = suspects.get(keyOf(input.text));
        if (suspect === undefined) {
          clean.push(input);
          continue;
        }
        if (suspect.verdict !== undefined) {
          judged.push({ input, error: suspect.verdict });
          continue;
        }
        const next = Math.ceil(suspect.size / 2);
        const last = suspected.at(-1);
        if (last !== undefined && size === next && last.length < next) last.push(input);
        else suspected.push([input]);
        size = next;
      }
      return { clean, suspected, judged };
    },
    wentAway(texts) {
      const size = texts.length;
      for (const text of texts) {
        const key = keyOf(text);
        const before = suspects.get(key);
        const alone = (before?.alone ?? 0) + (size === 1 && before !== undefined ? 1 : 0);
        suspects.set(key, { size: Math.min(size, before?.size ?? size), alone });
      }
      for (const [oldest] of suspects) {
        if (suspects.size <= MAX_SUSPECTS) break;
        suspects.delete(oldest);
      }
      return size === 1 ? (suspects.get(keyOf(texts[0] ?? ""))?.alone ?? 0) : 0;
    },
    judge(text, error) {
      suspects.set(keyOf(text), { size: 1, alone: 0, verdict: error });
    },
    cleared(texts) {
      if (suspects.size === 0) return;
      for (const text of texts) suspects.delete(keyOf(text));
    },
  };
}
