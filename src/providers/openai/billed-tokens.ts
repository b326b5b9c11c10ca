import type { EmbeddingRequest } from "./embedding-request.js";

/** Tokenizers and templates differ from the estimate by this much at most, and a server may cut a long text. */
const MOST_TIMES = 10;
const TEMPLATE_TOKENS = 100;
const LEAST_SHARE = 1 / 50;

/**
 * What a request counts against the daily limits: the server's count, unless no tokenizer can mean it.
 * @param reported null: the server reports none
 * @returns tokens
 */
export function billedTokens(reported: number | null, { texts, tokens }: EmbeddingRequest): number {
  if (reported === null) return tokens;
  const least = Math.max(texts.length, tokens * LEAST_SHARE);
  const most = tokens * MOST_TIMES + texts.length * TEMPLATE_TOKENS;
  return reported >= least && reported <= most ? reported : tokens;
}
