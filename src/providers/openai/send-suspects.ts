import { EmbeddError } from "../../errors.js";
import type { Failure } from "./errors.js";
import type { Lane } from "./lane.js";
import type { EmbeddingRequest } from "./request.js";
import type { Suspects } from "./suspects.js";
import { failedInput } from "./text-errors.js";

/** A text is blamed after the server went away at it alone this often, each time just after it embedded another. */
const ALONE = 3;
/** The server probably starts again. */
const RESTART_MS = 1_000;

/** Whether the server, or what is behind its proxy, went away during the request. */
export function wentAway({ error, sent, status, meaning }: Failure): boolean {
  return meaning === "doubtful" && sent && (error.code === "unreachable" || status === 502 || status === 503);
}

export interface SuspectParts {
  suspects: Suspects;
  lane: Lane;
  /** @returns null: the server embeds a harmless text */
  probe: (request: EmbeddingRequest) => Promise<Failure | null>;
  exchange: (request: EmbeddingRequest) => Promise<{ vectors: Float32Array[] } | { failure: Failure }>;
  /** Sends as any other request. */
  send: (request: EmbeddingRequest) => Promise<Float32Array[]>;
}

/**
 * Sends suspected texts once, to a server that has just embedded a harmless one. A text that stands alone has the server
 * to itself, because a request at the same time could be the one that ends it.
 * @throws EmbeddError `row` once the server has gone away at this text alone often enough; `provider` before
 */
export function sendSuspects(request: EmbeddingRequest, parts: SuspectParts): Promise<Float32Array[]> {
  if (request.texts.length > 1) return trySuspects(request, parts);
  return parts.lane.alone(() => trySuspects({ ...request, alone: true }, parts));
}

async function trySuspects(request: EmbeddingRequest, parts: SuspectParts): Promise<Float32Array[]> {
  const { suspects, probe, exchange, send } = parts;
  const down = await probe(request);
  if (down !== null && down.error.kind !== "row") throw down.error;
  const outcome = await exchange(request);
  if ("vectors" in outcome) {
    suspects.cleared(request.texts);
    return outcome.vectors;
  }
  const { failure } = outcome;
  if (!wentAway(failure)) {
    // It answers, and another rule applies.
    const vectors = await send(request);
    suspects.cleared(request.texts);
    return vectors;
  }
  const { code, message, kind } = failure.error;
  if (suspects.wentAway(request.texts) < ALONE)
    throw new EmbeddError(message, { kind, code, retryAfterMs: RESTART_MS });
  const verdict = failedInput(failure, 1);
  suspects.judge(request.texts[0] ?? "", verdict);
  throw verdict;
}
