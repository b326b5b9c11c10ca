import { DEFAULTS } from "../../defaults.js";
import { configurationError } from "../../errors.js";
import { Secret } from "../../secret.js";
import { fileKey, givenKey } from "./key.js";
import type { KeySource } from "./key.js";
import { knownModel, modelNames } from "./models.js";
import { MAX_REQUEST_INPUTS, PRESETS } from "./presets.js";
import type { Preset, PresetName } from "./presets.js";

export interface ApiProviderOptions {
  provider: PresetName;
  /** A string is wrapped at once. */
  apiKey?: Secret | string | undefined;
  /** Read again when the server refuses its key. */
  apiKeyFile?: string | undefined;
  /** What comes before `/embeddings`. @default the provider's own */
  baseUrl?: string | undefined;
  /** As the server calls it. @default the provider's own */
  model?: string | undefined;
  /** Where the server has a name of its own for the model, as Azure's deployments have. @default that of the model */
  deployment?: string | undefined;
  /** Sent with every request. */
  headers?: Secret<Record<string, string>> | Record<string, string> | undefined;
  /** Components of every vector. @default what the column has, where the model can */
  dimensions?: number | undefined;
  /** The most tokens of a request. @default the provider's own */
  requestTokens?: number | undefined;
  /** The most texts of a request, at most 2048. @default the provider's own */
  requestInputs?: number | undefined;
  /** The most requests in flight. @default the provider's own */
  concurrency?: number | undefined;
  /** What becomes of a text beyond the model's limit. @default "truncate" */
  longText?: "truncate" | "refuse" | undefined;
  /** How long an answer may take, to its last byte. @default the provider's own */
  timeoutMs?: number | undefined;
  /** @default OpenAI's list price, where it is known */
  usdPerMillionTokens?: number | undefined;
  log?: Log | undefined;
}

export type Log = Record<"debug" | "warn", (details: object, message: string) => void>;

/** What is settled before the first request. */
export interface ApiSettings {
  /** Written beside every vector. */
  model: string;
  /** What the server is asked for. */
  wireModel: string;
  baseUrl: string;
  query: Record<string, string>;
  headers: Secret<Record<string, string>>;
  key: KeySource;
  keyHeader: Preset["keyHeader"];
  keyFrom: string;
  /** Without a request; null: the server must be asked. */
  dimensions: number | null;
  /** Up to `dimensions`, any number can be asked for. */
  shortens: boolean;
  /** Sent with every request, also where the model is not known. */
  askedDimensions: number | null;
  inputTokens: number | null;
  longText: "truncate" | "refuse";
  requestTokens: number;
  requestInputs: number;
  concurrency: number;
  timeoutMs: number;
  fullBatches: boolean;
  usdPerMillionTokens: number | null;
}

/** @throws EmbeddError `configuration` that names the variable that is missing or wrong */
export function resolveSettings(options: ApiProviderOptions): ApiSettings {
  const preset: Preset = PRESETS[options.provider];
  const given = options.model ?? preset.model;
  if (given === null) {
    throw configurationError(
      "model",
      `EMBEDD_MODEL is not set; ${options.provider} serves the model that it was started with`,
      "export EMBEDD_MODEL=BAAI/bge-small-en-v1.5",
    );
  }
  const { model, wire } = modelNames(given, preset);
  const known = knownModel(model);
  const dimensions = options.dimensions ?? known?.dimensions ?? null;
  if (known !== undefined && dimensions !== known.dimensions && !canShorten(known, dimensions)) {
    throw configurationError(
      "dimensions",
      `EMBEDD_DIMENSIONS is ${dimensions ?? ""}, but ${model} makes ${known.dimensions} dimensions`,
      "unset EMBEDD_DIMENSIONS, or set another EMBEDD_MODEL",
    );
  }
  const price = { list: known?.usdPerMillionTokens ?? null, free: 0, unknown: null }[preset.price];
  return {
    model,
    wireModel: options.deployment ?? wire,
    ...resolveUrl(options, preset),
    headers:
      options.headers instanceof Secret
        ? options.headers
        : new Secret({ ...options.headers }, "EMBEDD_HEADERS"),
    key: resolveKey(options, preset),
    keyHeader: preset.keyHeader,
    keyFrom: preset.keyFrom,
    dimensions,
    shortens: known?.shortens === true && options.dimensions === undefined,
    askedDimensions: dimensions === known?.dimensions ? null : (options.dimensions ?? null),
    inputTokens: known?.inputTokens ?? null,
    longText: options.longText ?? DEFAULTS.longText,
    requestTokens: options.requestTokens ?? preset.requestTokens,
    requestInputs: Math.min(options.requestInputs ?? preset.requestInputs, MAX_REQUEST_INPUTS),
    concurrency: options.concurrency ?? preset.concurrency,
    timeoutMs: options.timeoutMs ?? preset.timeoutMs,
    fullBatches: preset.fullBatches,
    usdPerMillionTokens: options.usdPerMillionTokens ?? price,
  };
}

function canShorten(known: { shortens: boolean; dimensions: number }, dimensions: number | null): boolean {
  return known.shortens && dimensions !== null && dimensions >= 1 && dimensions < known.dimensions;
}

/** Azure's resource address is enough; older ones with a deployment and `?api-version=` work as they are. */
function resolveUrl(
  { provider, baseUrl }: ApiProviderOptions,
  preset: Preset,
): Pick<ApiSettings, "baseUrl" | "query"> {
  const given = baseUrl ?? preset.baseUrl;
  if (given === null) {
    throw configurationError(
      "base_url",
      `EMBEDD_BASE_URL is not set; ${provider} has an address for every resource`,
      "export EMBEDD_BASE_URL=https://RESOURCE.openai.azure.com",
    );
  }
  const url = new URL(given);
  const query = Object.fromEntries(url.searchParams);
  const path = url.pathname.replace(/\/+$/, "").replace(/\/embeddings$/, "");
  return { baseUrl: url.origin + (provider === "azure" && path === "" ? "/openai/v1" : path), query };
}

function resolveKey({ provider, apiKey, apiKeyFile }: ApiProviderOptions, preset: Preset): KeySource {
  if (apiKey !== undefined) {
    const secret = typeof apiKey === "string" ? new Secret(apiKey, "EMBEDD_API_KEY") : apiKey;
    return givenKey(secret, secret.source);
  }
  if (apiKeyFile !== undefined) return fileKey(apiKeyFile);
  if (preset.keyVariable === null) return givenKey(null, "EMBEDD_API_KEY");
  throw configurationError(
    "api_key",
    `${provider} needs a key: neither ${preset.keyVariable} nor EMBEDD_API_KEY nor EMBEDD_API_KEY_FILE is set (from ${preset.keyFrom})`,
    `export ${preset.keyVariable}=…`,
  );
}
