import { z } from "zod";
import { databaseAddress } from "./check-arguments.js";
import { DEFAULTS, MIN_CONNECTIONS } from "./defaults.js";
import {
  MAX_CONCURRENCY,
  MAX_REQUEST_INPUTS,
  MAX_REQUEST_TOKENS,
  PRESETS,
  PRESET_NAMES,
} from "./providers/openai/presets.js";
import type { Preset } from "./providers/openai/presets.js";
import { Secret } from "./secret.js";

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export const PROVIDER_NAMES = ["local", ...PRESET_NAMES] as const;

declare module "zod" {
  interface GlobalMeta {
    /** The default in words, where it is not a constant. */
    unset?: string;
    /** The field of a preset that is the default. */
    preset?: "baseUrl" | "model" | "requestTokens" | "requestInputs" | "concurrency" | "timeoutMs";
  }
}

const presetsWith = (test: (preset: Preset) => boolean): string =>
  PRESET_NAMES.filter((name) => test(PRESETS[name])).join(", ");

/** @param max inclusive, as `min` */
function whole(min: number, max: number) {
  const error = `must be a whole number from ${min} to ${max}`;
  return z.coerce.number({ error }).int({ error }).min(min, { error }).max(max, { error });
}

function amount(max: number) {
  const error = `must be a number from 0 to ${max}`;
  return z.coerce.number({ error }).min(0, { error }).max(max, { error });
}

function oneOf<const T extends readonly [string, ...string[]]>(choices: T) {
  return z.enum(choices, { error: `must be ${choices.slice(0, -1).join(", ")} or ${choices.at(-1) ?? ""}` });
}

const text = () => z.string().min(1);

const baseUrl = text().refine(
  (value) => /^https?:\/\//.test(value) && URL.canParse(value),
  "must look like https://host/v1, without /embeddings",
);

const headers = z.string().transform((value, context) => {
  const parsed = parseHeaders(value);
  if (parsed === null) context.addIssue('must be a JSON object of strings, such as {"x-team": "search"}');
  return new Secret(parsed ?? {}, "EMBEDD_HEADERS");
});

/** null: not an object of strings. The value is never repeated: it may hold a key. */
function parseHeaders(value: string): Record<string, string> | null {
  try {
    return z
      .record(z.string().regex(/^[\w!#$%&'*+.^`|~-]+$/), z.string().regex(/^[\t\x20-\x7e\x80-\xff]*$/))
      .parse(JSON.parse(value));
  } catch {
    return null;
  }
}

/**
 * Every environment variable that embedd reads: bounds, default, meaning. The one source of `loadConfig`,
 * of the command line's help and of docs/reference.md (`npm run docs`).
 */
export const SETTING_GROUPS = {
  "Database and model": {
    DATABASE_URL: databaseAddress.optional().meta({
      unset: "none; required except with `--embedded` and by `embedd demo`",
      description:
        "PostgreSQL to use. It must be a direct connection: LISTEN and session locks do not work through a transaction pooler.",
    }),
    EMBEDD_DATA_DIR: text().default(DEFAULTS.dataDir).describe("Directory of embedded PostgreSQL."),
    EMBEDD_PROVIDER: oneOf(PROVIDER_NAMES)
      .default(DEFAULTS.provider)
      .describe("What computes the vectors: this process, or an API."),
  },
  "Local model": {
    EMBEDD_MODEL_PATH: text().optional().meta({
      unset: "the built-in all-MiniLM-L6-v2",
      description: "Model directory in the Hugging Face layout (onnx/model.onnx, tokenizer.json).",
    }),
    EMBEDD_MODEL_NAME: text().optional().meta({
      unset: "the directory's name and a checksum of its files",
      description: "Name that is stored with every vector of EMBEDD_MODEL_PATH.",
    }),
    EMBEDD_THREADS: whole(1, 256).optional().meta({
      unset: "all processors, within the CPU quota",
      description: "Threads for one matrix product.",
    }),
    EMBEDD_TOKEN_BUDGET: whole(16, 65_536)
      .default(DEFAULTS.tokenBudget)
      .describe("Maximum tokens of a micro-batch, padding included."),
  },
  "API providers": {
    EMBEDD_API_KEY: text().optional().meta({
      unset: "the provider's own variable",
      description: "API key. No flag takes a key, so `ps` never shows one.",
    }),
    EMBEDD_API_KEY_FILE: text()
      .optional()
      .describe(
        "File that holds the API key, such as a mounted secret. Reread when the server rejects the key.",
      ),
    OPENAI_API_KEY: text().optional().describe("API key for `openai`."),
    GITHUB_TOKEN: text().optional().describe("API key for `github`, with the permission `models: read`."),
    AZURE_OPENAI_API_KEY: text().optional().describe("API key for `azure`."),
    EMBEDD_BASE_URL: baseUrl.optional().meta({
      preset: "baseUrl",
      description:
        "Address of the server, without /embeddings. A user and password in it are sent as basic authentication.",
    }),
    EMBEDD_MODEL: text().optional().meta({
      preset: "model",
      description: "Model to use, by the server's name for it.",
    }),
    EMBEDD_DEPLOYMENT: text().optional().meta({
      unset: "the model's name",
      description: "Deployment name, where the server has its own name for the model, as Azure does.",
    }),
    EMBEDD_HEADERS: headers.optional().describe("Extra request headers, as a JSON object of strings."),
    EMBEDD_DIMENSIONS: whole(1, 16_000).optional().meta({
      unset: "the column's, if the model supports it",
      description: "Dimensions to request from a model that embedd does not know.",
    }),
    EMBEDD_REQUEST_TOKENS: whole(1, MAX_REQUEST_TOKENS).optional().meta({
      preset: "requestTokens",
      description: "Maximum tokens per request.",
    }),
    EMBEDD_REQUEST_INPUTS: whole(1, MAX_REQUEST_INPUTS).optional().meta({
      preset: "requestInputs",
      description: "Maximum texts per request.",
    }),
    EMBEDD_CONCURRENCY: whole(1, MAX_CONCURRENCY).optional().meta({
      preset: "concurrency",
      description: "Maximum requests in flight. Rate-limit headers of the server may lower it.",
    }),
    EMBEDD_LONG_TEXT: oneOf(["truncate", "refuse"])
      .default(DEFAULTS.longText)
      .describe("What to do with a text that exceeds the model's token limit: cut it, or record a failure."),
    EMBEDD_TIMEOUT_MS: whole(100, 3_600_000).optional().meta({
      preset: "timeoutMs",
      description: "Time limit for one complete answer.",
    }),
    EMBEDD_USD_PER_MILLION_TOKENS: amount(1e6)
      .optional()
      .meta({
        unset: `OpenAI's list price; 0 for ${presetsWith(({ price }) => price === "free")}; unknown for ${presetsWith(({ price }) => price === "unknown")}`,
        description: "Price for estimates and for EMBEDD_MAX_USD_PER_DAY.",
      }),
    EMBEDD_MAX_TOKENS_PER_DAY: whole(0, 1e15).optional().meta({
      unset: "no limit",
      description: "Tokens per day (UTC) for all workers of the database together; they pause at the limit.",
    }),
    EMBEDD_MAX_USD_PER_DAY: amount(1e9).optional().meta({
      unset: "no limit",
      description: "The same limit in US dollars, estimated from the price.",
    }),
  },
  Worker: {
    EMBEDD_BATCH_MS: whole(10, 60_000)
      .default(DEFAULTS.batchMs)
      .describe("Target time to embed one batch. embedd adjusts the rows per claim to meet it."),
    EMBEDD_MAX_BATCH_ROWS: whole(1, 10_000)
      .optional()
      .meta({
        unset: `${DEFAULTS.maxBatchRows}; ${MAX_REQUEST_INPUTS} for ${presetsWith(({ fullBatches }) => fullBatches)}`,
        description: "Maximum rows per claim.",
      }),
    EMBEDD_MAX_CHARS: whole(256, 10_000_000)
      .default(DEFAULTS.maxChars)
      .describe("Characters read from each content column."),
    EMBEDD_MAX_CLAIM_CHARS: whole(256, 1_000_000_000)
      .default(DEFAULTS.maxClaimChars)
      .describe("Approximate maximum characters per claim; bounds the worker's memory."),
    EMBEDD_MAX_CONNECTIONS: whole(MIN_CONNECTIONS, 1_000)
      .default(DEFAULTS.maxConnections)
      .describe(
        `Maximum database connections of a worker; at least ${MIN_CONNECTIONS}, or fewer than the limit of its role. While it builds a vector index, it opens one more.`,
      ),
    EMBEDD_POLL_INTERVAL_MS: whole(100, 86_400_000)
      .default(DEFAULTS.pollIntervalMs)
      .describe("How often to look for rows that no trigger reported, such as replicated ones."),
    EMBEDD_LEASE_MS: whole(1_000, 3_600_000)
      .default(DEFAULTS.leaseMs)
      .describe("How long until a frozen worker loses its rows."),
    EMBEDD_MAX_ATTEMPTS: whole(1, 1_000)
      .default(DEFAULTS.maxAttempts)
      .describe("Failures with the same text after which a row is dead."),
    EMBEDD_RETRY_DELAY_MS: whole(10, 3_600_000)
      .default(DEFAULTS.retryDelayMs)
      .describe("Delay before a failed row's second attempt; doubles with each attempt."),
    EMBEDD_REUSE: oneOf(["on", "off"])
      .default(DEFAULTS.reuse ? "on" : "off")
      .describe("Whether text embedded before reuses its cached vector."),
    EMBEDD_REUSE_MAX_MB: whole(1, 1_048_576)
      .default(DEFAULTS.reuseMaxMb)
      .describe("Maximum size of the vector cache; the least recently used vectors are dropped first."),
    EMBEDD_SHUTDOWN_MS: whole(0, 600_000)
      .default(DEFAULTS.shutdownMs)
      .describe("How long work in flight may take to finish after SIGTERM."),
  },
  Log: {
    EMBEDD_LOG_LEVEL: oneOf(LOG_LEVELS).default(DEFAULTS.logLevel).describe("Least severe level to log."),
    EMBEDD_LOG_FORMAT: oneOf(["pretty", "json"]).optional().meta({
      unset: "pretty on a terminal, else json",
      description: "Format of log lines.",
    }),
  },
} as const;

export const settingsSchema = z.object({
  ...SETTING_GROUPS["Database and model"],
  ...SETTING_GROUPS["Local model"],
  ...SETTING_GROUPS["API providers"],
  ...SETTING_GROUPS.Worker,
  ...SETTING_GROUPS.Log,
});
