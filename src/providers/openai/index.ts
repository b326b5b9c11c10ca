import { setMaxListeners } from "node:events";
import { EmbeddError } from "../../errors.js";
import type { EmbedOptions, Provider } from "../provider.js";
import { createBreaker } from "./breaker.js";
import { createClient } from "./client.js";
import { tooLong, unusableVector } from "./errors.js";
import { createKeptAnswers } from "./kept.js";
import type { KeptAnswers } from "./kept.js";
import { createLimiter } from "./limiter.js";
import { planRequests } from "./plan.js";
import type { Input } from "./plan.js";
import { MAX_REQUEST_INPUTS } from "./presets.js";
import { createRequester } from "./request.js";
import type { Requester } from "./request.js";
import { resolveSettings } from "./settings.js";
import type { ApiProviderOptions, ApiSettings, Log } from "./settings.js";
import { estimatingCounter, loadCl100k } from "./tokens.js";
import type { TokenCounter } from "./tokens.js";

export type { ApiProviderOptions } from "./settings.js";

/** As many texts as one request can have; calls with more make several. */
const MAX_BATCH_ROWS = MAX_REQUEST_INPUTS;

/**
 * The provider that asks a server with OpenAI's `/embeddings`. Only a model that is not known by name is
 * asked, once, how many dimensions it makes.
 * @throws EmbeddError `configuration` where a setting is missing, `provider` where the server had to be asked and failed
 */
export async function createApiProvider(options: ApiProviderOptions): Promise<Provider> {
  const settings = resolveSettings(options);
  const host = new URL(settings.baseUrl).host;
  const limiter = createLimiter(settings.concurrency, host);
  const requester = createRequester({
    settings,
    client: createClient(settings),
    breaker: createBreaker(),
    limiter,
  });
  const counter = settings.inputTokens === null ? estimatingCounter() : await loadCl100k();
  const dimensions = settings.dimensions ?? (await askDimensions(requester, settings));
  const closing = new AbortController();
  const stages: Stages = {
    settings: { ...settings, dimensions },
    requester,
    counter,
    kept: createKeptAnswers(),
    closing: closing.signal,
    noteCut: cutNotes(settings, options.log),
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
      // Some are counted, or written, while as many as may be are in flight.
      return limiter.limit + Math.ceil(limiter.limit / 4);
    },
    supportsDimensions: (asked) => supports(stages.settings, asked),
    async countTokens(texts) {
      const fitted = await counter.fit(texts.map(wellFormed), settings.inputTokens);
      return fitted.map(({ tokens }) => tokens);
    },
    embed: (texts, embedOptions) => embed(stages, texts, embedOptions),
    close() {
      if (!closing.signal.aborted) closing.abort(closed(settings.model));
      return Promise.resolve();
    },
  };
}

interface Stages {
  settings: ApiSettings & { dimensions: number };
  requester: Requester;
  counter: TokenCounter;
  kept: KeptAnswers;
  closing: AbortSignal;
  noteCut: (texts: number) => void;
}

async function embed(
  stages: Stages,
  texts: readonly string[],
  { signal, dimensions: asked, meter }: EmbedOptions = {},
): Promise<Float32Array[]> {
  const { settings, requester, counter, kept, closing } = stages;
  const dimensions = asked ?? settings.dimensions;
  const either = AbortSignal.any(signal === undefined ? [closing] : [signal, closing]);
  // One for each request, and there may be many.
  setMaxListeners(0, either);
  either.throwIfAborted();
  if (!supports(settings, dimensions)) throw unsupported(settings, dimensions);

  const fitted = await counter.fit(texts.map(wellFormed), settings.inputTokens, either);
  const cut = fitted.filter((text) => text.cut).length;
  const refusing = settings.longText === "refuse";
  if (cut > 0 && !refusing) stages.noteCut(cut);

  const vectors = new Array<Float32Array | undefined>(texts.length);
  const inputs: Input[] = [];
  fitted.forEach(({ text, tokens, cut }, index) => {
    if (cut && refusing) return;
    vectors[index] = kept.take(text, dimensions);
    if (vectors[index] === undefined) inputs.push({ index, text, tokens, cut });
  });

  const failures: unknown[] = cut > 0 && refusing ? [tooLong(settings.model, settings.inputTokens ?? 0)] : [];
  const send = async (request: readonly Input[]): Promise<void> => {
    const answer = await requester.send({
      texts: request.map(({ text }) => text),
      tokens: request.reduce((sum, input) => sum + input.tokens, 0),
      cutTexts: request.filter(({ cut }) => cut).length,
      dimensions,
      signal: either,
      meter,
    });
    request.forEach(({ index }, i) => (vectors[index] = answer[i] ?? undefined));
    if (answer.includes(null)) throw unusableVector(settings.model);
  };
  await Promise.all(
    planRequests(inputs, settings).map((request) =>
      send(request).catch((error: unknown) => {
        failures.push(error);
      }),
    ),
  );
  either.throwIfAborted();
  if (failures.length === 0) return vectors as Float32Array[];
  fitted.forEach(({ text }, index) => {
    const vector = vectors[index];
    if (vector !== undefined) kept.keep(text, dimensions, vector);
  });
  // A fault that is no text's comes first: no row is charged while there is one.
  throw failures.find((error) => !(error instanceof EmbeddError && error.kind === "row")) ?? failures[0];
}

function supports({ dimensions, shortens }: Stages["settings"], asked: number): boolean {
  return asked === dimensions || (shortens && Number.isInteger(asked) && asked >= 1 && asked < dimensions);
}

async function askDimensions(requester: Requester, { model }: ApiSettings): Promise<number> {
  const [vector] = await requester.send({
    texts: ["embedd"],
    tokens: 1,
    dimensions: null,
    signal: new AbortController().signal,
  });
  if (vector === undefined || vector === null) throw unusableVector(model);
  return vector.length;
}

/** Half of a surrogate pair is no character; JSON would carry it, and servers refuse it. */
const wellFormed = (text: string): string => text.toWellFormed();

/** The first time as a warning; a long backlog would otherwise fill the log. */
function cutNotes({ model, inputTokens }: ApiSettings, log: Log | undefined): (texts: number) => void {
  let total = 0;
  return (texts) => {
    const first = total === 0;
    total += texts;
    log?.[first ? "warn" : "debug"](
      { model, limitTokens: inputTokens, texts, total },
      "texts beyond the model's limit were cut; EMBEDD_LONG_TEXT=refuse fails them instead",
    );
  };
}

const closed = (model: string): EmbeddError =>
  new EmbeddError(`the provider of ${model} is closed`, { kind: "provider", code: "provider_closed" });

function unsupported({ model, dimensions, shortens }: Stages["settings"], asked: number): EmbeddError {
  return new EmbeddError(
    `${model} makes ${shortens ? "at most " : ""}${dimensions} dimensions, not ${asked}`,
    { kind: "configuration", code: "dimensions" },
  );
}
