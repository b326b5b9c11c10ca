import { dimensionsOf } from "./answer.js";
import { compareModel } from "./answered-model.js";
import type { Client, WireRequest } from "./client.js";
import { classify, wrongDimensions, wrongModel } from "./errors.js";
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

export interface AttemptHooks {
  /** Called when the whole body has arrived, before it is parsed. */
  onReceived: () => void;
  /** Called when the server names a model that may be another one. */
  onOtherModel: (answered: string) => void;
}

/**
 * Sends one request, bounded by `settings.timeoutMs`, and checks the dimensions and the model of its answer.
 * @throws the signal's reason when aborted, and nothing else
 */
export async function attemptRequest(
  client: Client,
  settings: ApiSettings,
  { texts, dimensions, encoding, signal }: AttemptRequest,
  { onReceived, onOtherModel }: AttemptHooks,
): Promise<AttemptResult> {
  const abort = new AbortController();
  const onAbort = (): void => abort.abort();
  signal.addEventListener("abort", onAbort, { once: true });
  let timedOut = false;
  let sent = false;
  const timer = setTimeout(() => {
    timedOut = true;
    abort.abort();
  }, settings.timeoutMs);
  try {
    signal.throwIfAborted();
    const answer = await client.create(
      { texts, dimensions: dimensionsToSend(settings, dimensions), expected: dimensions, encoding },
      abort.signal,
      {
        onSent: () => {
          sent = true;
        },
        onReceived,
      },
    );
    const got = dimensionsOf(answer);
    if (dimensions !== null && got !== null && got !== dimensions) {
      return { failure: wrongDimensions(settings, dimensions, got) };
    }
    const model = compareModel(settings, answer.model);
    if (model === "other") return { failure: wrongModel(settings, answer.model ?? "") };
    if (model === "unclear") onOtherModel(answer.model ?? "");
    return { answer };
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    return { failure: classify(error, settings, { timedOut, sent }) };
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
