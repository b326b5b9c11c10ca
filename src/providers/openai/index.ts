import { setMaxListeners } from "node:events";
import { EmbeddError } from "../../errors.js";
import { withAnyOf } from "../../sleep.js";
import type { EmbedOptions, Provider } from "../provider.js";
import { requireAll } from "../failed-texts.js";
import type { TextResult } from "../failed-texts.js";
import { requireUsable, unusableVector } from "../unusable-vectors.js";
import { modelLogger } from "./answered-model.js";
import { createBreaker } from "./breaker.js";
import { createClient } from "./client.js";
import { createLimiter } from "./limiter.js";
import { createPartialResults } from "./partial-results.js";
import type { PartialResults } from "./partial-results.js";
import { MAX_REQUEST_INPUTS } from "./presets.js";
import { createRequester } from "./request.js";
import type { Requester } from "./request.js";
import { resolveSettings } from "./settings.js";
import type { ApiProviderOptions, ApiSettings, Log } from "./settings.js";
import { createRequestSize } from "./request-size.js";
import { createSuspects } from "./suspects.js";
import { createInputSender } from "./send-inputs.js";
import type { InputSender } from "./send-inputs.js";
import type { Input } from "./split-requests.js";
import { tooLong } from "./text-errors.js";
import { estimatingCounter, loadCl100k } from "./tokens.js";
import type { TokenCounter } from "./tokens.js";

export type { ApiProviderOptions } from "./settings.js";

/** The most texts that one request can carry; calls with more are split. */
const MAX_BATCH_ROWS = MAX_REQUEST_INPUTS;

/**
 * Creates the provider for servers with OpenAI's `/embeddings` API. For a model that embedd does not know, it
 * sends one request to learn the dimensions.
 * @throws EmbeddError `configuration` when a setting is missing or invalid, `provider` when that request fails
 */
export async function createApiProvider(options: ApiProviderOptions): Promise<Provider> {
  const settings = resolveSettings(options);
  const host = new URL(settings.baseUrl).host;
  const limiter = createLimiter(settings.concurrency, host);
  const client = createClient(settings);
  const suspects = createSuspects();
  const requester = createRequester({
    suspects,
    settings,
    client,
    breaker: createBreaker(),
    limiter,
    onOtherModel: modelLogger(settings, options.log),
  });
  const counter = settings.inputTokens === null ? estimatingCounter() : await loadCl100k();
  const dimensions = settings.dimensions ?? (await askDimensions(requester, settings));
  const closing = new AbortController();
  const logCut = cutLogger(settings, options.log);
  const cutOne = (): void => {
    logCut(1);
  };
  const onTooLong = settings.longText === "refuse" ? null : cutOne;
  const stages: Stages = {
    settings: { ...settings, dimensions },
    sender: createInputSender(requester, createRequestSize(settings, options.log), suspects, onTooLong),
    counter,
    partialResults: createPartialResults(),
    closing: closing.signal,
    logCut,
  };
  options.log?.debug(
    {
      model: settings.model,
      host,
      dimensions,
      requestTokens: settings.requestTokens,
      concurrency: settings.concurrency,
    },
    "API provider ready",
  );
  return {
    model: settings.model,
    dimensions,
    maxBatchRows: MAX_BATCH_ROWS,
    ...(settings.fullBatches && { minBatchRows: MAX_BATCH_ROWS }),
    usdPerMillionTokens: settings.usdPerMillionTokens,
    get concurrency() {
      // More calls than requests: some calls count tokens or write while others are in flight.
      return limiter.limit + Math.ceil(limiter.limit / 4);
    },
    supportsDimensions: (asked) => supports(stages.settings, asked),
    async countTokens(texts) {
      const fitted = await counter.fit(texts.map(wellFormed), settings.inputTokens);
      return fitted.map(({ tokens }) => tokens);
    },
    async countCut(texts) {
      const fitted = await counter.fit(texts.map(wellFormed), settings.inputTokens);
      return fitted.filter(({ cut }) => cut).length;
    },
    embed: (texts, embedOptions) => embed(stages, texts, embedOptions),
    close() {
      if (!closing.signal.aborted) closing.abort(closedError(settings.model));
      return client.close();
    },
  };
}

interface Stages {
  settings: ApiSettings & { dimensions: number };
  sender: InputSender;
  counter: TokenCounter;
  partialResults: PartialResults;
  closing: AbortSignal;
  logCut: (texts: number) => void;
}

async function embed(
  stages: Stages,
  texts: readonly string[],
  options: EmbedOptions = {},
): Promise<Float32Array[]> {
  const { signal } = options;
  const sources = signal === undefined ? [stages.closing] : [signal, stages.closing];
  return withAnyOf(sources, (abort) => embedUntil(stages, texts, options, abort));
}

async function embedUntil(
  stages: Stages,
  texts: readonly string[],
  { dimensions: asked, meter, cutBefore }: EmbedOptions,
  abort: AbortSignal,
): Promise<Float32Array[]> {
  const { settings, sender, counter, partialResults } = stages;
  const dimensions = asked ?? settings.dimensions;
  // Each request adds a listener, and a call can have many requests.
  setMaxListeners(0, abort);
  abort.throwIfAborted();
  if (!supports(settings, dimensions)) throw unsupportedDimensions(settings, dimensions);

  const fitted = await counter.fit(texts.map(wellFormed), settings.inputTokens, abort);
  const cut = fitted.filter((text) => text.cut).length;
  const refuseCut = settings.longText === "refuse";
  if (cut > 0 && !refuseCut) stages.logCut(cut);

  const results = new Array<TextResult>(texts.length);
  const inputs: Input[] = [];
  fitted.forEach(({ text, tokens, cut }, index) => {
    const known =
      cut && refuseCut
        ? tooLong(settings.model, settings.inputTokens ?? 0)
        : partialResults.take(text, dimensions);
    if (known !== undefined) results[index] = known;
    else inputs.push({ index, text, tokens, cut: cut || cutBefore?.has(texts[index] ?? "") === true });
  });
  let failure: Error | null = null;
  await sender
    .send(inputs, { dimensions, signal: abort, meter }, ({ index }, result) => (results[index] = result))
    .catch((error: unknown) => (failure = error as Error));
  abort.throwIfAborted();
  try {
    // A failure of the provider wins over a failure of a text: while one exists, no row is charged.
    if (failure !== null) throw failure as Error;
    return requireUsable(settings.model, requireAll(results));
  } catch (error) {
    fitted.forEach(({ text }, index) => {
      const vector = results[index];
      if (vector instanceof Float32Array && unusableVector(settings.model, vector) === null)
        partialResults.store(text, dimensions, vector);
    });
    throw error;
  }
}

function supports({ dimensions, shortens }: Stages["settings"], asked: number): boolean {
  return asked === dimensions || (shortens && Number.isInteger(asked) && asked >= 1 && asked < dimensions);
}

async function askDimensions(requester: Requester, { model }: ApiSettings): Promise<number> {
  const vectors = await requester.send({
    texts: ["embedd"],
    tokens: 1,
    dimensions: null,
    signal: new AbortController().signal,
  });
  const [vector] = requireUsable(model, vectors);
  return vector?.length ?? 0;
}

/** Replaces lone surrogates: JSON can carry them, but servers refuse them. */
const wellFormed = (text: string): string => text.toWellFormed();

/** Warns once, then logs at debug level, so that a long backlog does not flood the log. */
function cutLogger({ model, inputTokens }: ApiSettings, log: Log | undefined): (texts: number) => void {
  let total = 0;
  return (texts) => {
    const first = total === 0;
    total += texts;
    log?.[first ? "warn" : "debug"](
      { model, limitTokens: inputTokens, texts, total },
      "texts were cut at the model's limit; set EMBEDD_LONG_TEXT=refuse to fail them instead",
    );
  };
}

const closedError = (model: string): EmbeddError =>
  new EmbeddError(`the provider of ${model} is closed`, { kind: "provider", code: "provider_closed" });

function unsupportedDimensions(
  { model, dimensions, shortens }: Stages["settings"],
  asked: number,
): EmbeddError {
  return new EmbeddError(`${model} has ${shortens ? "at most " : ""}${dimensions} dimensions, not ${asked}`, {
    kind: "configuration",
    code: "dimensions",
  });
}
