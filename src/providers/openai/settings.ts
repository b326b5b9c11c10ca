import { DEFAULTS } from "../../defaults.js";
import { configurationError } from "../../errors.js";
import { Secret } from "../../secret.js";
import { fileKey, givenKey } from "./key.js";
import type { KeySource } from "./key.js";
import { knownModel, modelNames } from "./models.js";
import { PRESETS } from "./presets.js";
import type { Preset, PresetName } from "./presets.js";

export interface ApiProviderOptions {
  provider: PresetName;
  /** A plain string is wrapped in a Secret immediately. */
  apiKey?: Secret | string | undefined;
  /** Read again when the server rejects the key. */
  apiKeyFile?: string | undefined;
  /** The URL before `/embeddings`; a user and password in it become basic authentication. @default the provider's own */
  baseUrl?: Secret | string | undefined;
  /** The model's name on the server. @default the provider's own */
  model?: string | undefined;
  /** The name that the server uses instead of the model's, such as an Azure deployment. @default that of the model */
  deployment?: string | undefined;
  /** Sent with every request. */
  headers?: Secret<Record<string, string>> | Record<string, string> | undefined;
  /** Components of every vector. @default what the column has, where the model can */
  dimensions?: number | undefined;
  /** Maximum tokens per request. @default the provider's own */
  requestTokens?: number | undefined;
  /** Maximum texts per request, at most 2048. @default the provider's own */
  requestInputs?: number | undefined;
  /** Maximum requests in flight. @default the provider's own */
  concurrency?: number | undefined;
  /** What to do with a text beyond the model's limit. @default "truncate" */
  longText?: "truncate" | "refuse" | undefined;
  /** Time limit for an answer, to its last byte. @default the provider's own */
  timeoutMs?: number | undefined;
  /** @default OpenAI's list price, where it is known */
  usdPerMillionTokens?: number | undefined;
  log?: Log | undefined;
}

export type Log = Record<"debug" | "warn", (details: object, message: string) => void>;

/** Options and preset combined, before the first request. */
export interface ApiSettings {
  /** Stored with every vector. */
  model: string;
  /** The model name sent to the server. */
  wireModel: string;
  baseUrl: string;
  query: Record<string, string>;
  headers: Secret<Record<string, string>>;
  key: KeySource;
  keyHeader: Preset["keyHeader"];
  keyFrom: string;
  /** null: unknown until the server is asked. */
  dimensions: number | null;
  /** Whether the server can return any number of dimensions up to `dimensions`. */
  shortens: boolean;
  /** Sent with every request; null: not sent. */
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

/** @throws EmbeddError `configuration` that names the missing or invalid variable */
export function resolveSettings(options: ApiProviderOptions): ApiSettings {
  const preset: Preset = PRESETS[options.provider];
  const given = options.model ?? preset.model;
  if (given === null) {
    throw configurationError(
      "model",
      `EMBEDD_MODEL is not set; name the model that the ${options.provider} server was started with`,
      "export EMBEDD_MODEL=BAAI/bge-small-en-v1.5",
    );
  }
  const { model, wire } = modelNames(given, preset);
  const known = knownModel(model);
  const dimensions = options.dimensions ?? known?.dimensions ?? null;
  if (known !== undefined && dimensions !== known.dimensions && !canShorten(known, dimensions)) {
    throw configurationError(
      "dimensions",
      `EMBEDD_DIMENSIONS is ${dimensions ?? ""}, but ${model} has ${known.dimensions} dimensions; unset it or choose another EMBEDD_MODEL`,
      "unset EMBEDD_DIMENSIONS",
    );
  }
  const address = resolveUrl(options, preset);
  const price = { list: known?.usdPerMillionTokens ?? null, free: 0, unknown: null }[preset.price];
  return {
    model,
    wireModel: options.deployment ?? wire,
    baseUrl: address.baseUrl,
    query: address.query,
    headers: new Secret(
      {
        ...address.authorization,
        ...(options.headers instanceof Secret ? options.headers.reveal() : options.headers),
      },
      "EMBEDD_HEADERS",
    ),
    key: resolveKey(options, preset, address.authorization !== null),
    keyHeader: preset.keyHeader,
    keyFrom: preset.keyFrom,
    dimensions,
    shortens: known?.shortens === true && options.dimensions === undefined,
    askedDimensions: dimensions === known?.dimensions ? null : (options.dimensions ?? null),
    inputTokens: known?.inputTokens ?? null,
    longText: options.longText ?? DEFAULTS.longText,
    requestTokens: options.requestTokens ?? preset.requestTokens,
    requestInputs: options.requestInputs ?? preset.requestInputs,
    concurrency: options.concurrency ?? preset.concurrency,
    timeoutMs: options.timeoutMs ?? preset.timeoutMs,
    fullBatches: preset.fullBatches,
    usdPerMillionTokens: options.usdPerMillionTokens ?? price,
  };
}

function canShorten(known: { shortens: boolean; dimensions: number }, dimensions: number | null): boolean {
  return known.shortens && dimensions !== null && dimensions >= 1 && dimensions < known.dimensions;
}

/** For Azure the resource's URL is enough; older URLs with a deployment and `?api-version=` also work. */
function resolveUrl(
  { provider, baseUrl }: ApiProviderOptions,
  preset: Preset,
): Pick<ApiSettings, "baseUrl" | "query"> & { authorization: Record<string, string> | null } {
  const given = (baseUrl instanceof Secret ? baseUrl.reveal() : baseUrl) ?? preset.baseUrl;
  if (given === null) {
    throw configurationError(
      "base_url",
      `EMBEDD_BASE_URL is not set; every ${provider} resource has its own URL`,
      "export EMBEDD_BASE_URL=https://RESOURCE.openai.azure.com",
    );
  }
  const url = new URL(given);
  const query = Object.fromEntries(url.searchParams);
  const path = url.pathname.replace(/\/+$/, "").replace(/\/embeddings$/, "");
  return {
    baseUrl: url.origin + (provider === "azure" && path === "" ? "/openai/v1" : path),
    query,
    authorization: basicAuthorization(url),
  };
}

/** null: the URL has neither user nor password. */
function basicAuthorization({ username, password }: URL): Record<string, string> | null {
  if (username === "" && password === "") return null;
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { authorization: `Basic ${Buffer.from(pair).toString("base64")}` };
}

/** @param hasUser the address has a user or a password, which takes the place of the key in the same header */
function resolveKey(
  { provider, apiKey, apiKeyFile }: ApiProviderOptions,
  preset: Preset,
  hasUser: boolean,
): KeySource {
  if (hasUser && preset.keyHeader === "authorization") {
    if (apiKey === undefined && apiKeyFile === undefined) return givenKey(null, "EMBEDD_BASE_URL");
    throw configurationError(
      "base_url",
      "EMBEDD_BASE_URL has a user or password, and a key is set too, but both are sent as the Authorization header; remove one",
      "unset EMBEDD_API_KEY",
    );
  }
  if (apiKey !== undefined) {
    const secret = typeof apiKey === "string" ? new Secret(apiKey, "EMBEDD_API_KEY") : apiKey;
    return givenKey(secret, secret.source);
  }
  if (apiKeyFile !== undefined) return fileKey(apiKeyFile);
  if (preset.keyVariable === null) return givenKey(null, "EMBEDD_API_KEY");
  throw configurationError(
    "api_key",
    `${provider} needs a key: set ${preset.keyVariable}, EMBEDD_API_KEY or EMBEDD_API_KEY_FILE (get a key from ${preset.keyFrom})`,
    `read -rs ${preset.keyVariable} && export ${preset.keyVariable}`,
  );
}
