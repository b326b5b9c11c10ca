import { z } from "zod";
import { checkArguments, databaseAddress, wholeNumber } from "../check-arguments.js";
import { MIN_CONNECTIONS } from "../defaults.js";
import { configurationError } from "../errors.js";
import type { WorkerOptions } from "./worker-options.js";

const DAY_MS = 86_400_000;
const milliseconds = wholeNumber(1, DAY_MS).optional();

const provider = z.custom<WorkerOptions["provider"]>(
  (value) => typeof (value as { embed?: unknown } | null | undefined)?.embed === "function",
  "must be a provider, as createProvider returns it",
);

const limit = z.number({ error: "must be a number of at least 0" }).min(0).optional();

const schema = z.object({
  databaseUrl: databaseAddress,
  provider,
  maxBatchRows: wholeNumber(1, 100_000).optional(),
  batchMs: milliseconds,
  maxConnections: wholeNumber(MIN_CONNECTIONS, 10_000).optional(),
  pollIntervalMs: milliseconds,
  leaseMs: milliseconds,
  maxChars: wholeNumber(1, 100_000_000).optional(),
  maxClaimChars: wholeNumber(1, 1_000_000_000).optional(),
  maxAttempts: wholeNumber(1, 1_000_000).optional(),
  retryDelayMs: wholeNumber(0, DAY_MS).optional(),
  maxTokensPerDay: limit,
  maxUsdPerDay: limit,
  reuse: z.boolean({ error: "must be true or false" }).optional(),
  reuseMaxMb: wholeNumber(1, 1_048_576).optional(),
  takeoverMs: wholeNumber(0, DAY_MS).optional(),
  listenerProofMs: milliseconds,
  schemaGraceMs: wholeNumber(0, DAY_MS).optional(),
});

/** @throws EmbeddError `configuration`/`argument` that names every invalid option, or `configuration`/`unknown_price` */
export function checkWorkerOptions(options: WorkerOptions): void {
  checkArguments("createWorker", schema, options);
  const { provider, maxUsdPerDay } = options;
  if (maxUsdPerDay === undefined || provider.usdPerMillionTokens !== null) return;
  throw configurationError(
    "unknown_price",
    `the price of ${provider.model} is not known, so embedd cannot enforce a limit in dollars`,
    "EMBEDD_USD_PER_MILLION_TOKENS=0.02 embedd run",
  );
}
