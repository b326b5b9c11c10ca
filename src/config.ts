import { isIPv4 } from "node:net";
import type { z } from "zod";
import { addressTarget, addressUrl, hostAndPort } from "./database-address.js";
import { configurationError } from "./errors.js";
import type { EmbeddError } from "./errors.js";
import { PRESETS } from "./providers/openai/presets.js";
import type { PresetName } from "./providers/openai/presets.js";
import { Secret } from "./secret.js";
import { settingsSchema } from "./settings.js";
import { shellWord } from "./shell-word.js";

const KNOWN = Object.keys(settingsSchema.shape);

export type Config = Readonly<{
  /** It may hold a password. */
  databaseUrl: Secret | undefined;
  /** False: `.env` alone names a server on another machine, so no password of this user, as in .pgpass, may go there. */
  databaseTrusted: boolean;
  dataDir: string;
  provider: "local" | PresetName;
  /** The first that is set of EMBEDD_API_KEY, EMBEDD_API_KEY_FILE (then undefined here) and the provider's own variable. */
  apiKey: Secret | undefined;
  apiKeyFile: string | undefined;
  /** It may hold a password. */
  baseUrl: Secret | undefined;
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
  modelName: string | undefined;
  threads: number | undefined;
  tokenBudget: number;
  maxBatchRows: number | undefined;
  batchMs: number;
  maxChars: number;
  maxClaimChars: number;
  maxTokensPerDay: number | undefined;
  maxUsdPerDay: number | undefined;
  maxConnections: number;
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

type Variables = Readonly<Record<string, string | undefined>>;

/**
 * Reads the environment. `overrides` hold the command line's flags, named after their variables, and win.
 * @param file what `.env` sets where the environment has no such variable
 * @throws EmbeddError `configuration`/`settings` that names every invalid variable, not only the first; `env_file` if
 *   `.env` alone names the server that a secret would be sent to
 */
export function loadConfig(
  overrides: Variables = {},
  env: Variables = process.env,
  file: Variables = {},
): Config {
  const fixed = { ...env, ...dropUndefined(overrides) };
  const given = Object.fromEntries(
    // An empty variable counts as unset, as in most shell scripts.
    Object.entries({ ...withoutOther(file, fixed), ...fixed }).filter(
      ([name, value]) => value !== "" && (KNOWN.includes(name) || name.startsWith("EMBEDD_")),
    ),
  );
  const parsed = settingsSchema.safeParse(given);
  const unknown = Object.keys(given).filter((name) => !KNOWN.includes(name));
  // One value may break several rules that have one message.
  const invalid = new Set(parsed.error?.issues.map(({ path, message }) => `${path.join(".")}: ${message}`));
  const problems = [...unknown.map((name) => `${name}: unknown setting`), ...invalid];
  if (given["EMBEDD_API_KEY"] !== undefined && given["EMBEDD_API_KEY_FILE"] !== undefined) {
    problems.push("EMBEDD_API_KEY: EMBEDD_API_KEY_FILE is set too; unset one of them");
  }
  if (!parsed.success || problems.length > 0) {
    const onlyAddress = problems.every((problem) => problem.startsWith("DATABASE_URL: "));
    throw configurationError(
      "settings",
      `invalid settings:\n  ${problems.join("\n  ")}`,
      onlyAddress ? "export DATABASE_URL=postgres://user@host:5432/database" : "embedd --help",
    );
  }
  const value = parsed.data;
  const databaseTrusted = isDatabaseTrusted(value.DATABASE_URL, fixed);
  refuseLeak(value, fixed, databaseTrusted);
  return Object.freeze({
    databaseUrl:
      value.DATABASE_URL === undefined ? undefined : new Secret(value.DATABASE_URL, "DATABASE_URL"),
    databaseTrusted,
    dataDir: value.EMBEDD_DATA_DIR,
    provider: value.EMBEDD_PROVIDER,
    apiKey: apiKey(value),
    apiKeyFile: value.EMBEDD_API_KEY_FILE,
    baseUrl:
      value.EMBEDD_BASE_URL === undefined ? undefined : new Secret(value.EMBEDD_BASE_URL, "EMBEDD_BASE_URL"),
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
    modelName: value.EMBEDD_MODEL_NAME,
    threads: value.EMBEDD_THREADS,
    tokenBudget: value.EMBEDD_TOKEN_BUDGET,
    maxBatchRows: value.EMBEDD_MAX_BATCH_ROWS,
    batchMs: value.EMBEDD_BATCH_MS,
    maxChars: value.EMBEDD_MAX_CHARS,
    maxClaimChars: value.EMBEDD_MAX_CLAIM_CHARS,
    maxTokensPerDay: value.EMBEDD_MAX_TOKENS_PER_DAY,
    maxUsdPerDay: value.EMBEDD_MAX_USD_PER_DAY,
    maxConnections: value.EMBEDD_MAX_CONNECTIONS,
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

/** The key is given in one of two ways. That of the environment overrides either of `.env`. */
function withoutOther(file: Variables, fixed: Variables): Variables {
  const keys = ["EMBEDD_API_KEY", "EMBEDD_API_KEY_FILE"];
  if (keys.every((name) => (fixed[name] ?? "") === "")) return file;
  return Object.fromEntries(Object.entries(file).filter(([name]) => !keys.includes(name)));
}

/**
 * Whoever wrote `.env` must not get the secrets of who starts embedd in that folder. A server on this machine may have
 * them, and so may one that the environment or a flag names.
 */
function refuseLeak(
  value: z.output<typeof settingsSchema>,
  fixed: Variables,
  databaseTrusted: boolean,
): void {
  const isSet = (name: string): boolean => (fixed[name] ?? "") !== "";
  const { EMBEDD_BASE_URL: api, DATABASE_URL: database, EMBEDD_PROVIDER: provider } = value;
  if (provider !== "local" && api !== undefined && !isSet("EMBEDD_BASE_URL")) {
    const url = new URL(api);
    const keys = ["EMBEDD_API_KEY", PRESETS[provider].keyVariable ?? "", "EMBEDD_HEADERS"];
    // The file that `.env` names may be any file of this user.
    const secret = value.EMBEDD_API_KEY_FILE === undefined ? keys.find(isSet) : "EMBEDD_API_KEY_FILE";
    if (secret !== undefined && !isLoopback(url.hostname))
      throw leak("EMBEDD_BASE_URL", url, url.host, secret);
  }
  if (database !== undefined && isSet("PGPASSWORD") && !databaseTrusted)
    throw leak("DATABASE_URL", addressUrl(database), hostAndPort(addressTarget(database)), "PGPASSWORD");
}

function isDatabaseTrusted(address: string | undefined, fixed: Variables): boolean {
  if (address === undefined || (fixed["DATABASE_URL"] ?? "") !== "") return true;
  const { host } = addressTarget(address);
  return isLoopback(host) || host === fixed["PGHOST"];
}

/** @param url of which the hint types all but the user's name and password, which are no part of the question */
function leak(
  name: "EMBEDD_BASE_URL" | "DATABASE_URL",
  url: URL,
  server: string,
  secret: string,
): EmbeddError {
  if (name === "EMBEDD_BASE_URL") url.username = "";
  url.password = "";
  // Even if there is none, this would write the others in another way.
  if (url.searchParams.has("password")) url.searchParams.delete("password");
  return configurationError(
    "env_file",
    `the file .env sets ${name}, so the secret in ${secret} would be sent to a server that this file chooses: ` +
      `${server}. If you trust it, set ${name} in the environment`,
    `export ${name}=${shellWord(url.toString())}`,
  );
}

/** @param host as `URL` or pg names it; a folder is that of a Unix socket */
const isLoopback = (host: string): boolean =>
  ["localhost", "::1", "[::1]"].includes(host) ||
  (isIPv4(host) && host.startsWith("127.")) ||
  host.startsWith("/");

function apiKey(value: z.output<typeof settingsSchema>): Secret | undefined {
  const own = value.EMBEDD_PROVIDER === "local" ? null : PRESETS[value.EMBEDD_PROVIDER].keyVariable;
  const variable = value.EMBEDD_API_KEY === undefined ? own : "EMBEDD_API_KEY";
  if (variable === null || (variable === own && value.EMBEDD_API_KEY_FILE !== undefined)) return undefined;
  const key = value[variable]?.trim();
  return key === undefined || key === "" ? undefined : new Secret(key, variable);
}

function dropUndefined(values: Readonly<Record<string, string | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}
