/** The default of every setting that has a fixed one, and of the library option of the same name. */
export const DEFAULTS = {
  dataDir: ".embedd",
  provider: "local",
  logLevel: "info",
  longText: "truncate",
  /**
   * Flat between one text at a time and 1,024 tokens for texts of 160 tokens (16.1 to 16.4 texts per CPU
   * second; 13.9 at 2,048, 9.1 for 48 texts in arrival order), where one text fills the caches. Short
   * texts decide: of 4 to 12 tokens, 372 at 256, 365 at 512, 290 at 2,048, 218 alone. `npm run bench`
   */
  tokenBudget: 512,
  maxBatchRows: 512,
  batchMs: 500,
  maxChars: 65_536,
  maxClaimChars: 4_000_000,
  maxConnections: 10,
  pollIntervalMs: 30_000,
  leaseMs: 15_000,
  maxAttempts: 5,
  retryDelayMs: 10_000,
  reuse: true,
  reuseMaxMb: 1_024,
  takeoverMs: 30_000,
  schemaGraceMs: 10_000,
  shutdownMs: 8_000,
} as const;

/** What a worker cannot do without: a connection for its locks, one to listen, and one to read and write rows. */
export const MIN_CONNECTIONS = 3;
