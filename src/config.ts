import { z } from "zod";
import { configurationError } from "./errors.js";

const milliseconds = (fallback: number, min: number, max: number) =>
  z.coerce.number().int().min(min).max(max).default(fallback);
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
  EMBEDD_PROVIDER: z.enum(["local"]).default("local"),
  EMBEDD_MODEL_PATH: z.string().min(1).optional(),
  EMBEDD_THREADS: count(1, 256).optional(),
  EMBEDD_TOKEN_BUDGET: count(16, 65_536).optional(),
  EMBEDD_MAX_BATCH_ROWS: count(1, 10_000).default(512),
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
  databaseUrl: string | undefined;
  dataDir: string;
  provider: "local";
  modelPath: string | undefined;
  threads: number | undefined;
  tokenBudget: number | undefined;
  maxBatchRows: number;
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
  if (!parsed.success || problems.length > 0) {
    throw configurationError("settings", `wrong settings:\n  ${problems.join("\n  ")}`, "embedd run --help");
  }
  const value = parsed.data;
  return Object.freeze({
    databaseUrl: value.DATABASE_URL,
    dataDir: value.EMBEDD_DATA_DIR,
    provider: value.EMBEDD_PROVIDER,
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

function dropUndefined(values: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}
