import type { EmbedOptions, Provider } from "./provider.js";

export interface ProviderOptions {
  provider: "local";
  /** A directory in the Hugging Face layout instead of the built-in all-MiniLM-L6-v2. */
  modelPath?: string | undefined;
  /** Threads of a matrix product. @default all cores */
  threads?: number | undefined;
  /** Tokens of a micro-batch, padding included. */
  tokenBudget?: number | undefined;
}

/** Loads a model, or connects to one. */
export async function createProvider(options: ProviderOptions): Promise<Provider> {
  const { modelPath, threads, tokenBudget } = options;
  // Its libraries take a while to load, and most commands don't need them.
  const { createLocalProvider } = await import("./local/index.js");
  return createLocalProvider({
    ...(modelPath !== undefined && { modelPath }),
    ...(threads !== undefined && { threads }),
    ...(tokenBudget !== undefined && { tokenBudget }),
  });
}

/** The vector of a search query, L2-normalized. */
export async function embedQuery(
  provider: Provider,
  text: string,
  options?: EmbedOptions,
): Promise<Float32Array> {
  const [vector] = await provider.embed([text], options);
  if (vector === undefined) throw new Error("the provider returned no vector");
  return vector;
}
