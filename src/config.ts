import { z } from "zod";
import { configurationError } from "./errors.js";
import { PRESETS, PRESET_NAMES } from "./providers/openai/presets.js";
import type { PresetName } from "./providers/openai/presets.js";
import { Secret } from "./secret.js";

const milliseconds = (fallback: number, min: number, max: number) =>
  z.coerce.number().int().min(min).max(max).default(fallback);
const text = z.string().min(1).optional();
const count = (min: number, max: number) => z.coerce.number().int().min(min).max(max);

/** Every variable that embedd reads, with its bounds and default. Source of the table in README. */
const schema = z.object({
  DATABASE_URL: z
    .string()
    .refine(
      (value) => /^postgres(ql)?:\/\//.test(value) && URL.canParse(value),
      "must look like postgres://user@host:5432/database",
    )
    .optional(),
  EMBEDD_DATA_DIR: z.string().min(1).default(".embedd"),
  EMBEDD_PROVIDER: z.enum(["local", ...PRESET_NAMES]).default("local"),
  EMBEDD_API_KEY: text,
  EMBEDD_API_KEY_FILE: text,
  OPENAI_API_KEY: text,
  GITHUB_TOKEN: text,
  AZURE_OPENAI_API_KEY: text,
  EMBEDD_BASE_URL: z
    .string()
    .refine(
      (value) => /^https?:\/\//.test(value) && URL.canParse(value),
      "must look like https://host/v1, without /embeddings",
    )
    .refine(
      (value) => !URL.canParse(value) || (new URL(value).username === "" && new URL(value).password === ""),
      "must hold no user and password; EMBEDD_API_KEY or EMBEDD_HEADERS take them",
    )
    .optional(),
  EMBEDD_MODEL: text,
  EMBEDD_DEPLOYMENT: text,
  EMBEDD_HEADERS: z
    .string()
    .transform((value, context) => {
      const headers = parseHeaders(value);
      if (headers === null)
        context.addIssue('must be a JSON object of strings, such as {"x-team": "search"}');
      return new Secret(headers ?? {}, "EMBEDD_HEADERS");
    })
    .optional(),
  EMBEDD_DIMENSIONS: count(1, 16_000).optional(),
  EMBEDD_REQUEST_TOKENS: count(1, 100_000_000).optional(),
  EMBEDD_REQUEST_INPUTS: count(1, 2_048).optional(),
  EMBEDD_CONCURRENCY: count(1, 1_000).optional(),
  EMBEDD_LONG_TEXT: z.enum(["truncate", "refuse"]).default("truncate"),
  EMBEDD_TIMEOUT_MS: count(100, 3_600_000).optional(),
  EMBEDD_USD_PER_MILLION_TOKENS: z.coerce.number().min(0).max(1e6).optional(),
  EMBEDD_MODEL_PATH: z.string().min(1).optional(),
  EMBEDD_THREADS: count(1, 256).optional(),
  EMBEDD_TOKEN_BUDGET: count(16, 65_536).optional(),
  EMBEDD_MAX_BATCH_ROWS: count(1, 10_000).optional(),
  EMBEDD_BATCH_MS: milliseconds(500, 10, 60_000),
  EMBEDD_MAX_CHARS: count(256, 10_000_000).default(65_536),
  EMBEDD_MAX_CLAIM_CHARS: count(256, 1_000_000_000).default(4_000_000),
  EMBEDD_MAX_TOKENS_PER_DAY: count(0, 1e15).optional(),
  EMBEDD_MAX_USD_PER_DAY: z.coerce.number().min(0).max(1e9).optional(),
  EMBEDD_POLL_INTERVAL_MS: milliseconds(30_000, 100, 86_400_000),
  EMBEDD_LEASE_MS: milliseconds(15_000, 1_000, 3_600_000),
  EMBEDD_MAX_ATTEMPTS: count(1, 1_000).default(5),
  EMBEDD_RETRY_DELAY_MS: milliseconds(10_000, 10, 3_600_000),
  EMBEDD_REUSE: z.enum(["on", "off"]).default("on"),
  EMBEDD_REUSE_MAX_MB: count(1, 1_048_576).default(1_024),
  EMBEDD_SHUTDOWN_MS: milliseconds(8_000, 0, 600_000),
  EMBEDD_LOG_LEVEL: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
  EMBEDD_LOG_FORMAT: z.enum(["pretty", "json"]).optional(),
});

export type Config = Readonly<{
  /** It may hold a password. */
  databaseUrl: Secret | undefined;
  dataDir: string;
  provider: "local" | PresetName;
  /** The first that is set of EMBEDD_API_KEY, EMBEDD_API_KEY_FILE (then undefined here) and the provider's own variable. */
  apiKey: Secret | undefined;
  apiKeyFile: string | undefined;
  baseUrl: string | undefined;
  model: string | undefined;
  deployment: string | undefined;
  headers: Secret<Record<string, string>> | undefined;
  dimensions: number | undefined;
  requestTokens: number | undefined;
  requestInputs: number | undefined;
  concurrency: number | undefined;
  longText: "truncate" | "refuse";
  timeoutMs: number | undefined;
  usdPerMillionTokens: number | undefined;
  modelPath: string | undefined;
  threads: number | undefined;
  tokenBudget: number | undefined;
  maxBatchRows: number | undefined;
  batchMs: number;
  maxChars: number;
  maxClaimChars: number;
  maxTokensPerDay: number | undefined;
  maxUsdPerDay: number | undefined;
  pollIntervalMs: number;
  leaseMs: number;
  maxAttempts: number;
  retryDelayMs: number;
  reuse: boolean;
  reuseMaxMb: number;
  shutdownMs: number;
  logLevel: "debug" | "info" | "warn" | "error" | "silent";
  logFormat: "pretty" | "json";
}>;

/**
 * Reads the environment once; flags, named as the variables, come before it.
 * @throws EmbeddError of kind `configuration` that names every variable that is wrong, not only the first
 */
export function loadConfig(
  overrides: Readonly<Record<string, string | undefined>> = {},
  env: Readonly<Record<string, string | undefined>> = process.env,
): Config {
  const known = Object.keys(schema.shape);
  const given = Object.fromEntries(
    // An empty variable is an unset one, as in most shells' scripts.
    Object.entries({ ...env, ...dropUndefined(overrides) }).filter(
      ([name, value]) => value !== "" && (known.includes(name) || name.startsWith("EMBEDD_")),
    ),
  );
  const parsed = schema.safeParse(given);
  const problems = Object.keys(given)
    .filter((name) => !known.includes(name))
    .map((name) => `${name}: there is no such setting`);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) problems.push(`${issue.path.join(".")}: ${issue.message}`);
  }
  if (given["EMBEDD_API_KEY"] !== undefined && given["EMBEDD_API_KEY_FILE"] !== undefined) {
    problems.push("EMBEDD_API_KEY: EMBEDD_API_KEY_FILE is set as well; unset one of them");
  }
  if (!parsed.success || problems.length > 0) {
    throw configurationError("settings", `wrong settings:\n  ${problems.join("\n  ")}`, "embedd run --help");
  }
  const value = parsed.data;
  return Object.freeze({
    databaseUrl:
      value.DATABASE_URL === undefined ? undefined : new Secret(value.DATABASE_URL, "DATABASE_URL"),
    dataDir: value.EMBEDD_DATA_DIR,
    provider: value.EMBEDD_PROVIDER,
    apiKey: apiKey(value),
    apiKeyFile: value.EMBEDD_API_KEY_FILE,
    baseUrl: value.EMBEDD_BASE_URL,
    model: value.EMBEDD_MODEL,
    deployment: value.EMBEDD_DEPLOYMENT,
    headers: value.EMBEDD_HEADERS,
    dimensions: value.EMBEDD_DIMENSIONS,
    requestTokens: value.EMBEDD_REQUEST_TOKENS,
    requestInputs: value.EMBEDD_REQUEST_INPUTS,
    concurrency: value.EMBEDD_CONCURRENCY,
    longText: value.EMBEDD_LONG_TEXT,
    timeoutMs: value.EMBEDD_TIMEOUT_MS,
    usdPerMillionTokens: value.EMBEDD_USD_PER_MILLION_TOKENS,
    modelPath: value.EMBEDD_MODEL_PATH,
    threads: value.EMBEDD_THREADS,
    tokenBudget: value.EMBEDD_TOKEN_BUDGET,
    maxBatchRows: value.EMBEDD_MAX_BATCH_ROWS,
    batchMs: value.EMBEDD_BATCH_MS,
    maxChars: value.EMBEDD_MAX_CHARS,
    maxClaimChars: value.EMBEDD_MAX_CLAIM_CHARS,
    maxTokensPerDay: value.EMBEDD_MAX_TOKENS_PER_DAY,
    maxUsdPerDay: value.EMBEDD_MAX_USD_PER_DAY,
    pollIntervalMs: value.EMBEDD_POLL_INTERVAL_MS,
    leaseMs: value.EMBEDD_LEASE_MS,
    maxAttempts: value.EMBEDD_MAX_ATTEMPTS,
    retryDelayMs: value.EMBEDD_RETRY_DELAY_MS,
    reuse: value.EMBEDD_REUSE === "on",
    reuseMaxMb: value.EMBEDD_REUSE_MAX_MB,
    shutdownMs: value.EMBEDD_SHUTDOWN_MS,
    logLevel: value.EMBEDD_LOG_LEVEL,
    logFormat: value.EMBEDD_LOG_FORMAT ?? (process.stderr.isTTY ? "pretty" : "json"),
  });
}

function apiKey(value: z.output<typeof schema>): Secret | undefined {
  const own = value.EMBEDD_PROVIDER === "local" ? null : PRESETS[value.EMBEDD_PROVIDER].keyVariable;
  const variable = value.EMBEDD_API_KEY === undefined ? own : "EMBEDD_API_KEY";
  if (variable === null || (variable === own && value.EMBEDD_API_KEY_FILE !== undefined)) return undefined;
  const key = value[variable]?.trim();
  return key === undefined || key === "" ? undefined : new Secret(key, variable);
}

/** null: not an object of strings. Its text is never repeated, it may hold a key. */
function parseHeaders(text: string): Record<string, string> | null {
  try {
    return z
      .record(z.string().regex(/^[\w!#$%&'*+.^`|~-]+$/), z.string().regex(/^[\t\x20-\x7e\x80-\xff]*$/))
      .parse(JSON.parse(text));
  } catch {
    return null;
  }
}

function dropUndefined(values: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}
