import type { Pipeline } from "../database/pipeline.js";
import type { EmbeddError } from "../errors.js";
import type { Logger } from "../logger.js";
import type { Provider } from "../providers/provider.js";
import type { BatchOutcome } from "./rows.js";

export interface WorkerOptions {
  /** A direct connection: LISTEN and session locks do not pass a transaction pooler. */
  databaseUrl: string;
  provider: Provider;
  /** @default silent */
  log?: Logger;
  /** The most rows that one claim takes. @default 512, or what fills one request of the provider */
  maxBatchRows?: number | undefined;
  /** How long a batch should take to embed; the size of claims follows from it. @default 500 */
  batchMs?: number;
  /** The most connections it opens, at least 3; a vector index that it builds takes one more. @default 10 */
  maxConnections?: number;
  /** How often to sweep for rows that fired no trigger, such as replicated ones. @default 30000 */
  pollIntervalMs?: number;
  /** How long until a frozen worker loses its rows. @default 15000 */
  leaseMs?: number;
  /** Characters read of each content column. @default 65536 */
  maxChars?: number;
  /** About how many characters one claim may hold; bounds the memory of a worker. @default 4000000 */
  maxClaimChars?: number;
  /** A row that failed this often with the same text is dead. @default 5 */
  maxAttempts?: number;
  /** How long a failed row backs off before its second attempt; doubles each time. @default 10000 */
  retryDelayMs?: number;
  /** The most tokens that all workers of the database together send to an API in a day (UTC). @default no limit */
  maxTokensPerDay?: number | undefined;
  /** The same in US dollars, estimated from the model's list price. @default no limit */
  maxUsdPerDay?: number | undefined;
  /** Text that the model embedded before reuses its cached vector. @default true */
  reuse?: boolean;
  /** The size of the vector cache; the least recently used vectors are dropped first. @default 1024 */
  reuseMaxMb?: number;
  /** How long no worker of another model may be connected before this one takes over. @default 30000 */
  takeoverMs?: number;
  /** How often the listener checks that notifications reach it. @default 15000 */
  listenerProofMs?: number | undefined;
  /** Ends the start, and has no effect on a worker that has started: that is what `stop` is for. */
  signal?: AbortSignal;
  /** How long embedd's schema may be missing, as between `uninstall` and `migrate`, before `onGone`. @default 10000 */
  schemaGraceMs?: number | undefined;
  /** Called once if embedd's schema was dropped for good. The worker can only be stopped then. */
  onGone?: (error: EmbeddError) => void;
  onBatch?: (pipeline: Pipeline, outcome: BatchOutcome) => void;
}
