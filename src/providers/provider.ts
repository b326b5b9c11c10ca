/** Counts what a provider spends and can refuse further requests. */
export interface UsageMeter {
  /**
   * Called before each request of about `tokens` input tokens.
   * @throws EmbeddError of kind `provider` if the request would exceed a limit; the request is then not sent
   */
  reserve(tokens: number): Promise<Reservation>;
}

export interface Reservation {
  /** Called once after the request, whether or not it succeeded, with the usage that the server reports. */
  settle(spent: RequestUsage): void;
}

export interface RequestUsage {
  requests: number;
  tokens: number;
  /** Texts embedded, counted for successful requests only. @default 0 */
  texts?: number;
  /** Those of them that were truncated, at the model's limit or before. @default 0 */
  cutTexts?: number;
}

export interface EmbedOptions {
  signal?: AbortSignal | undefined;
  /** Components of each vector. @default the provider's `dimensions` */
  dimensions?: number | undefined;
  /** What the texts are for; some local models put another prompt before a query. @default "document" */
  purpose?: "query" | "document" | undefined;
  /** Called for every request to a server, and for every call of a local model. */
  meter?: UsageMeter | undefined;
  /** Texts that were truncated before; they count as cut too. @default none */
  cutBefore?: ReadonlySet<string> | undefined;
}

/** Turns texts into embeddings. Knows nothing about databases. */
export interface Provider {
  /** The name stored with every vector, such as `all-MiniLM-L6-v2`. */
  readonly model: string;
  /** Components of a vector, unless `EmbedOptions.dimensions` overrides them. */
  readonly dimensions: number;
  /** How many concurrent `embed` calls are useful. The value can change over time. */
  readonly concurrency: number;
  /** The maximum number of texts for one `embed` call. */
  readonly maxBatchRows: number;
  /**
   * Set when the number of calls is what costs, for example with a quota of 150 requests per day: batches
   * then have at least this many texts if enough rows are pending, even if such a batch takes long.
   * @default none
   */
  readonly minBatchRows?: number;
  /**
   * How the model reads a document, where its name does not tell: with which prompt before it, cut at how many tokens.
   * A cached vector is reused only by a provider that reads alike.
   * @default none
   */
  readonly reading?: string;
  /** Set when the model runs in this process. Such tokens count toward no daily limit. @default false */
  readonly runsHere?: boolean;
  /** List price in US dollars per million input tokens; 0: free; null: unknown. */
  readonly usdPerMillionTokens: number | null;
  /** Whether the provider can return vectors with this many components. */
  supportsDimensions(dimensions: number): boolean;
  /** Tokens of each text, at most the model's limit. */
  countTokens(texts: readonly string[]): Promise<number[]>;
  /** How many of the texts exceed the model's limit and would be cut. @default none */
  countCut?(texts: readonly string[]): Promise<number>;
  /**
   * @returns one L2-normalized vector per text, in the order of the texts
   * @throws EmbeddError of kind `provider` (no text is at fault) or `row` (some text is at fault; to find out
   *   which, embed each alone)
   * @throws the signal's reason when aborted
   */
  embed(texts: readonly string[], options?: EmbedOptions): Promise<Float32Array[]>;
  /** Frees threads and sockets and rejects calls in flight. Idempotent. */
  close(): Promise<void>;
}
