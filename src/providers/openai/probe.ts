import type { EmbeddingRequest } from "./request.js";

/** A harmless text: whether the server embeds it tells a text's fault from the server's. */
const PROBE_TEXTS: readonly string[] = ["embedd"];

export const probeOf = (request: EmbeddingRequest): EmbeddingRequest => ({
  ...request,
  texts: PROBE_TEXTS,
  tokens: 1,
  cutTexts: 0,
});

export const isProbe = ({ texts }: EmbeddingRequest): boolean => texts === PROBE_TEXTS;
