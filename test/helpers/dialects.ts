import type { ApiProviderOptions } from "#embedd/providers/openai/index.js";
import { apiError } from "./api-server.js";
import type { ApiRequest, ApiServerOptions, EmbeddingItem, Reply } from "./api-server.js";

/** One way in which servers differ from OpenAI's documentation, and what embedd makes of it. */
export interface Dialect {
  /** Reads as: "a server that …". */
  name: string;
  server: ApiServerOptions;
  options?: Partial<ApiProviderOptions>;
  /** How many texts are embedded in one call. @default 40 */
  texts?: number;
  /** How many characters the bad text has; its vector is that of its beginning. @default those of `BAD_TEXT` */
  long?: number;
  /** `embedded`: every text. `charged`: every text but the bad one. `paused`: no text, and none is charged. */
  outcome: "embedded" | "charged" | "paused";
  /** Of the charge, or of the fault. */
  code?: string;
  /** How many calls it may take, as a worker makes them. @default 1 */
  calls?: number;
  /** The most requests that the calls may cost. */
  requests: number;
}

export const BAD_TEXT = "text 13";

/** A fault of every request that holds the bad text. */
const forBad =
  (reply: Reply) =>
  ({ texts }: ApiRequest): Reply | undefined =>
    texts.includes(BAD_TEXT) ? reply : undefined;

const forMoreThan =
  (most: number, reply: Reply) =>
  ({ texts }: ApiRequest): Reply | undefined =>
    texts.length > most ? reply : undefined;

const always = (reply: Reply) => (): Reply => reply;

const withItems = (change: (item: EmbeddingItem, index: number) => unknown): Reply => ({
  change: (items) => items.map(change),
});

const badItem = (embedding: unknown) => (request: ApiRequest) =>
  withItems((item, i) => (request.texts[i] === BAD_TEXT ? { ...item, embedding } : item));

/** What servers without a code of their own say to a text of more than 100 characters. */
const forLong =
  (status: number, message: string) =>
  ({ texts }: ApiRequest): Reply | undefined =>
    texts.some((text) => text.length > 100) ? apiError(status, { message }) : undefined;

/** Halving 40 texts until the long one stands alone, and it until it has at most 100 characters. */
const CUT = { long: 1_000, options: { model: "any", dimensions: 1_536 } };

const NAN = apiError(500, { message: "Out of range float values are not JSON compliant: nan" });
const LM_STUDIO = { status: 200, body: { error: "Unexpected endpoint or method. (POST /embeddings)" } };
/** Halving 40 texts until one stands alone. */
const HALVES = Math.ceil(Math.log2(40));
/** Five attempts, a harmless text, and for each half the answer of one and two failures of the other. */
const ISOLATED = 5 + 1 + 4 * HALVES + 3;

export const DIALECTS: Dialect[] = [
  // One text that the server can never embed.
  {
    name: "answers 400 to a text",
    server: { script: forBad(apiError(400)) },
    outcome: "charged",
    code: "refused_input",
    requests: 2 * HALVES + 2,
  },
  {
    name: "answers 413 to a text",
    server: { script: forBad(apiError(413)) },
    outcome: "charged",
    code: "refused_input",
    requests: 2 * HALVES + 2,
  },
  {
    name: "answers 422 to a text",
    server: { script: forBad(apiError(422)) },
    outcome: "charged",
    code: "refused_input",
    requests: 2 * HALVES + 2,
  },
  {
    name: "answers 500 to a text whose vector is NaN",
    server: { script: forBad(NAN) },
    outcome: "charged",
    code: "failed_input",
    requests: ISOLATED,
  },
  {
    name: "answers 424 to a text",
    server: { script: forBad(apiError(424, { type: "Backend" })) },
    outcome: "charged",
    code: "failed_input",
    requests: ISOLATED,
  },
  {
    name: "has a proxy that answers 502 with HTML to a text that ends its process",
    server: { script: forBad({ status: 502, body: "<h1>Bad Gateway</h1>" }) },
    outcome: "charged",
    code: "failed_input",
    requests: ISOLATED,
  },
  {
    name: "answers an empty list to a text",
    server: { script: forBad({ change: () => [] }) },
    outcome: "charged",
    code: "failed_input",
    requests: ISOLATED,
  },
  {
    name: "answers 200 with an error to a text",
    server: { script: forBad(LM_STUDIO) },
    outcome: "charged",
    code: "failed_input",
    requests: ISOLATED,
  },
  {
    name: "cuts the connection at a text",
    server: { script: forBad({ reset: "before" }) },
    outcome: "charged",
    code: "failed_input",
    requests: ISOLATED,
  },
  {
    name: "never answers to a text",
    server: { script: forBad({ latencyMs: 3_600_000 }) },
    options: { timeoutMs: 2_000 },
    outcome: "charged",
    code: "failed_input",
    requests: ISOLATED,
  },
  {
    name: "ends at a text, and starts again a while later",
    server: { script: forBad({ restartMs: 300 }) },
    outcome: "charged",
    code: "failed_input",
    calls: 40,
    // Per call at most five attempts, or a harmless text and a request of each half.
    requests: 120,
  },
  {
    name: "answers null instead of a text's vector",
    server: { script: badItem(null) },
    outcome: "charged",
    code: "unusable_vector",
    requests: 1,
  },
  {
    name: "answers an empty vector to a text",
    server: { script: badItem([]) },
    outcome: "charged",
    code: "unusable_vector",
    requests: 1,
  },
  {
    name: "answers null in place of NaN to a text",
    server: { base64: "ignored", script: badItem(Array(1_536).fill(null)) },
    outcome: "charged",
    code: "unusable_vector",
    requests: 1,
  },
  {
    name: "answers zeros to a text",
    server: { script: badItem(Array(1_536).fill(0)) },
    outcome: "charged",
    code: "unusable_vector",
    requests: 1,
  },
  // One text that is too long for the server, whose tokens embedd cannot count.
  {
    name: "says of a text that its length exceeds the context length, as Ollama does",
    server: { script: forLong(400, "the input length exceeds the context length") },
    ...CUT,
    outcome: "embedded",
    requests: 2 * HALVES + 2 + 4,
  },
  {
    name: "says of a text that it must have less than 512 tokens, as TEI does",
    server: {
      script: forLong(413, "Input validation error: `inputs` must have less than 512 tokens. Given: 600"),
    },
    ...CUT,
    outcome: "embedded",
    requests: 2 * HALVES + 2 + 4,
  },
  {
    name: "says of a text that it is too large to process, as llama.cpp does",
    server: {
      script: forLong(500, "input (600 tokens) is too large to process. increase the physical batch size"),
    },
    ...CUT,
    outcome: "embedded",
    requests: 2 * HALVES + 2 + 4,
  },
  {
    name: "says of a text that it is too long, where long texts are refused",
    server: { script: forLong(400, "the input length exceeds the context length") },
    long: 1_000,
    options: { ...CUT.options, longText: "refuse" },
    outcome: "charged",
    code: "too_long",
    requests: 2 * HALVES + 2,
  },
  {
    name: "says of a text that it is too long, however short",
    server: {
      script: ({ texts }) =>
        texts.some((text) => text === BAD_TEXT || text.length < 4)
          ? apiError(400, { message: "the input length exceeds the context length" })
          : undefined,
    },
    options: CUT.options,
    outcome: "charged",
    code: "too_long",
    requests: 2 * HALVES + 2 + 3,
  },
  // Too many texts at once.
  {
    name: "answers 400 to more than 10 texts",
    server: { script: forMoreThan(10, apiError(400)) },
    texts: 2_048,
    outcome: "embedded",
    requests: 250,
  },
  {
    name: "answers 413 to more than 32 texts",
    server: { script: forMoreThan(32, apiError(413)) },
    texts: 2_048,
    outcome: "embedded",
    requests: 100,
  },
  {
    name: "answers 500 to more than 16 texts",
    server: { script: forMoreThan(16, apiError(500)) },
    texts: 256,
    outcome: "embedded",
    requests: 60,
  },
  {
    name: "cuts the connection at more than 16 texts",
    server: { script: forMoreThan(16, { reset: "before" }) },
    texts: 256,
    outcome: "embedded",
    requests: 60,
  },
  // Broken for every text.
  {
    name: "answers NaN to every text",
    server: { script: always(withItems((item) => ({ ...item, embedding: Array(1_536).fill(null) }))) },
    outcome: "paused",
    code: "wrong_answer",
    requests: 2,
  },
  {
    name: "answers zeros to every text",
    server: { script: always(withItems((item) => ({ ...item, embedding: Array(1_536).fill(0) }))) },
    outcome: "paused",
    code: "wrong_answer",
    requests: 2,
  },
  {
    name: "answers null to every text",
    server: { script: always(withItems((item) => ({ ...item, embedding: null }))) },
    outcome: "paused",
    code: "wrong_answer",
    requests: 7,
  },
  {
    name: "answers 500 to every text",
    server: { script: always(apiError(500)) },
    outcome: "paused",
    code: "unavailable",
    requests: 7,
  },
  {
    name: "answers 424 to every text",
    server: { script: always(apiError(424)) },
    outcome: "paused",
    code: "unavailable",
    requests: 7,
  },
  {
    name: "answers an empty list to everything",
    server: { script: always({ change: () => [] }) },
    outcome: "paused",
    code: "wrong_answer",
    requests: 7,
  },
  {
    name: "cuts every connection",
    server: { script: always({ reset: "before" }) },
    outcome: "paused",
    code: "unreachable",
    requests: 7,
  },
  {
    name: "answers 200 with an error to everything",
    server: { script: always(LM_STUDIO) },
    outcome: "paused",
    code: "wrong_answer",
    requests: 7,
  },
  // Limits and money.
  {
    name: "answers 402",
    server: { script: always(apiError(402)) },
    outcome: "paused",
    code: "quota",
    requests: 1,
  },
  {
    name: "answers 200 with the error 402",
    server: {
      script: always({ status: 200, body: { error: { code: 402, message: "Insufficient credits" } } }),
    },
    outcome: "paused",
    code: "quota",
    requests: 1,
  },
  {
    name: "answers 429 with Retry-After: 30s",
    server: { script: always(apiError(429, {}, { "retry-after": "30s" })) },
    outcome: "paused",
    code: "rate_limited",
    requests: 1,
  },
  {
    name: "redirects",
    server: { script: always({ status: 308, headers: { location: "https://elsewhere.invalid/v1" } }) },
    outcome: "paused",
    code: "redirect",
    requests: 1,
  },
  // Formats.
  { name: "reports no usage", server: { usage: "none" }, outcome: "embedded", requests: 1 },
  {
    name: "answers numbers where base64 was asked",
    server: { base64: "ignored" },
    outcome: "embedded",
    requests: 1,
  },
  { name: "refuses base64 with 400", server: { base64: "refused" }, outcome: "embedded", requests: 4 },
  {
    name: "refuses base64 with 500",
    server: { script: ({ encoding }) => (encoding === "base64" ? apiError(500) : undefined) },
    outcome: "embedded",
    requests: 9,
  },
  {
    name: "leaves out index 0, as Gemini does",
    server: {
      script: always({
        change: (items) => items.map(({ index, ...item }) => (index === 0 ? item : { ...item, index })),
      }),
    },
    outcome: "embedded",
    requests: 1,
  },
  // Models.
  {
    name: "answers with a known model that was not asked for",
    server: { model: "text-embedding-ada-002" },
    outcome: "paused",
    code: "wrong_model",
    requests: 1,
  },
  {
    name: "answers with a model of an unknown name",
    server: { model: "/data/model" },
    outcome: "embedded",
    requests: 1,
  },
  {
    name: "answers with the model's version",
    server: { model: "text-embedding-3-small-v2" },
    outcome: "embedded",
    requests: 1,
  },
];
