import { dimensionsOf } from "./answer.js";
import type { Client, WireRequest } from "./client.js";
import { classify, wrongDimensions } from "./errors.js";
import type { Failure } from "./errors.js";
import type { ApiSettings } from "./settings.js";

export interface AttemptRequest {
  texts: readonly string[];
  /** Required of the vectors; null: any. */
  dimensions: number | null;
  encoding: WireRequest["encoding"];
  signal: AbortSignal;
}

export type AttemptResult = { answer: Awaited<ReturnType<Client["create"]>> } | { failure: Failure };

/**
 * Sends one request, bounded by `settings.timeoutMs`, and checks the dimensions of its answer.
 * @param onReceived called when the whole body has arrived, before it is parsed
 * @throws the signal's reason when aborted, and nothing else
 */
export async function attemptRequest(
  client: Client,
  settings: ApiSettings,
  { texts, dimensions, encoding, signal }: AttemptRequest,
  onReceived: () => void,
): Promise<AttemptResult> {
  const abort = new AbortController();
  const onAbort = (): void => abort.abort();
  signal.addEventListener("abort", onAbort, { once: true });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    abort.abort();
  }, settings.timeoutMs);
  try {
    signal.throwIfAborted();
    const answer = await client.create(
      { texts, dimensions: dimensionsToSend(settings, dimensions), encoding },
      abort.signal,
      onReceived,
    );
    const got = dimensionsOf(answer);
    if (dimensions !== null && got !== null && got !== dimensions) {
      return { failure: wrongDimensions(settings, dimensions, got) };
    }
    return { answer };
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    return { failure: classify(error, settings, timedOut ? settings.timeoutMs : null) };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/** Omits the parameter for models with fixed dimensions, since many servers refuse the parameter itself. */
function dimensionsToSend(settings: ApiSettings, dimensions: number | null): number | null {
  if (dimensions === null || (!settings.shortens && settings.askedDimensions === null)) return null;
  return dimensions === settings.dimensions ? settings.askedDimensions : dimensions;
}
