/** Counts what a provider spends, and may refuse to spend more. */
export interface UsageMeter {
  /**
   * Called before each request of about `tokens` input tokens.
   * @throws EmbeddError of kind `provider` where a limit would be overstepped; the request is then not made
   */
  reserve(tokens: number): Promise<Reservation>;
}

export interface Reservation {
  /** Called once after the request, whatever came of it, with what the server says that it spent. */
  settle(spent: RequestUsage): void;
}

export interface RequestUsage {
  requests: number;
  tokens: number;
  /** Texts that were cut, since the model reads no more of them; of a request that succeeded. @default 0 */
  cutTexts?: number;
}

export interface EmbedOptions {
  signal?: AbortSignal | undefined;
  /** Components of each vector. @default the provider's own */
  dimensions?: number | undefined;
  /** Told of every request to a server; a local model makes none. */
  meter?: UsageMeter | undefined;
}

/** Makes embeddings. Knows texts and vectors, nothing of databases. */
export interface Provider {
  /** The name that is written beside every vector, such as `all-MiniLM-L6-v2`. */
  readonly model: string;
  /** Components of a vector, where no other number is asked for. */
  readonly dimensions: number;
  /** How many `embed` calls may usefully run at once. It may change with time. */
  readonly concurrency: number;
  /** The most texts that one `embed` call should be given. */
  readonly maxBatchRows: number;
  /**
   * Where a call's price hardly depends on its texts, such as a request of 150 a day: a batch is this large
   * where there are rows enough, however long it takes. @default none
   */
  readonly minBatchRows?: number;
  /** US dollars for a million input tokens, by the list price; 0: it costs nothing; null: unknown. */
  readonly usdPerMillionTokens: number | null;
  /** Whether vectors of this many components can be asked for. */
  supportsDimensions(dimensions: number): boolean;
  /** Tokens of each text as the model reads them, those beyond its limit left out. */
  countTokens(texts: readonly string[]): Promise<number[]>;
  /**
   * One L2-normalized vector a text, in the order of the texts.
   * @throws EmbeddError of kind `provider` (nothing to do with a text) or `row` (this input, when alone)
   * @throws the signal's reason when aborted
   */
  embed(texts: readonly string[], options?: EmbedOptions): Promise<Float32Array[]>;
  /** Frees threads and sockets. Safe to call twice. Calls in flight reject. */
  close(): Promise<void>;
}
