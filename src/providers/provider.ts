/** Makes embeddings. Knows texts and vectors, nothing of databases. */
export interface Provider {
  /** The name that is written beside every vector, such as `all-MiniLM-L6-v2`. */
  readonly model: string;
  /** Components of a vector. */
  readonly dimensions: number;
  /** How many `embed` calls may usefully run at once. */
  readonly concurrency: number;
  /** The most texts that one `embed` call should be given. */
  readonly maxBatchRows: number;
  /**
   * One L2-normalized vector of `dimensions` components a text, in the order of the texts.
   * @throws EmbeddError of kind `provider` (nothing to do with a text) or `row` (this input, when alone)
   * @throws the signal's reason when aborted
   */
  embed(texts: readonly string[], signal?: AbortSignal): Promise<Float32Array[]>;
  /** Frees threads and sockets. Safe to call twice. Calls in flight reject. */
  close(): Promise<void>;
}
