import type { UsageMeter } from "../provider.js";

/** Sends requests, with retries where a retry can help. */
export interface Requester {
  /**
   * @returns one vector per text
   * @throws EmbeddError `row` when the server refuses an input, or fails on the texts of this request while it embeds
   *   others; `configuration` for a redirect; `provider` for every other failure
   * @throws the signal's reason when aborted
   */
  send(request: EmbeddingRequest): Promise<Float32Array[]>;
}

export interface EmbeddingRequest {
  texts: readonly string[];
  tokens: number;
  /** How many of the texts were truncated. */
  cutTexts?: number;
  /** Required of the vectors; null: any. */
  dimensions: number | null;
  signal: AbortSignal;
  meter?: UsageMeter | undefined;
  /** Part of a request on which the server failed, so the same failure needs fewer attempts. @default false */
  suspected?: boolean;
  /** The server went away during an earlier request with these texts. @default false */
  mayEnd?: boolean;
  /** It has the server to itself. @default false */
  alone?: boolean;
}
