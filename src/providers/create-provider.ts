import { z } from "zod";
import { checkArguments, wholeNumber } from "../check-arguments.js";
import { ownFile } from "../own-file.js";
import type * as LocalProvider from "./local/index.js";
import type { ApiProviderOptions } from "./openai/index.js";
import { MAX_CONCURRENCY, MAX_REQUEST_INPUTS, MAX_REQUEST_TOKENS, PRESET_NAMES } from "./openai/presets.js";
import type { PresetName } from "./openai/presets.js";
import { configurationError } from "../errors.js";
import type { EmbedOptions, Provider } from "./provider.js";
import { requireUsable } from "./unusable-vectors.js";

export interface ProviderOptions extends Omit<ApiProviderOptions, "provider"> {
  provider: "local" | PresetName;
  /** Local: a directory in the Hugging Face layout instead of the built-in all-MiniLM-L6-v2. */
  modelPath?: string | undefined;
  /** Local: the name to store with every vector of that model. @default the directory's name and a checksum of its files */
  modelName?: string | undefined;
  /** Local: threads per matrix product. @default all processors, within the CPU quota */
  threads?: number | undefined;
  /** Local: tokens per micro-batch, padding included. @default 512 */
  tokenBudget?: number | undefined;
}

const schema = z.object({
  provider: z.enum(["local", ...PRESET_NAMES], { error: `must be local, ${PRESET_NAMES.join(" or ")}` }),
  modelPath: z.string({ error: "must be a path" }).optional(),
  modelName: z.string({ error: "must be a name" }).min(1, "must be a name").optional(),
  threads: wholeNumber(1, 1_024).optional(),
  tokenBudget: wholeNumber(1, 1_000_000).optional(),
  dimensions: wholeNumber(1, 16_000).optional(),
  requestTokens: wholeNumber(1, MAX_REQUEST_TOKENS).optional(),
  requestInputs: wholeNumber(1, MAX_REQUEST_INPUTS).optional(),
  concurrency: wholeNumber(1, MAX_CONCURRENCY).optional(),
  timeoutMs: wholeNumber(1, 86_400_000).optional(),
});

/**
 * Loads the local model or sets up an API provider. Ignores options that belong to another provider.
 * @throws EmbeddError of kind `configuration` when a setting is missing or invalid; of kind `provider` when a server
 *   that must be asked for its model's dimensions does not answer
 */
export async function createProvider(options: ProviderOptions): Promise<Provider> {
  checkArguments("createProvider", schema, options);
  // Imported on demand: the libraries load slowly, and most commands do not need them.
  if (options.provider !== "local") {
    const { createApiProvider } = await import("./openai/index.js");
    return createApiProvider({ ...options, provider: options.provider });
  }
  const { modelPath, modelName, threads, tokenBudget } = options;
  const { createLocalProvider } = await importLocalProvider();
  return createLocalProvider({
    ...(modelPath !== undefined && { modelPath }),
    ...(modelName !== undefined && { modelName }),
    ...(threads !== undefined && { threads }),
    ...(tokenBudget !== undefined && { tokenBudget }),
  });
}

/** Its native libraries and its thread's file cannot be bundled, so no bundler follows this import. */
async function importLocalProvider(): Promise<typeof LocalProvider> {
  const url = ownFile(import.meta.url, "./local/index.js", "the local model's program and libraries");
  return (await import(/* webpackIgnore: true */ /* @vite-ignore */ url.href)) as typeof LocalProvider;
}

/**
 * Embeds one search query.
 * @returns its vector: `options.dimensions` components, by default `provider.dimensions`, of length 1
 * @throws EmbeddError `configuration`/`dimensions` if the model has no such vectors; of kind `provider` or `row`, as
 *   `Provider.embed`; `row`/`unusable_vector` if the vector is zero or not finite
 */
export async function embedQuery(
  provider: Provider,
  text: string,
  options?: EmbedOptions,
): Promise<Float32Array> {
  const dimensions = options?.dimensions;
  if (dimensions !== undefined && !provider.supportsDimensions(dimensions))
    throw configurationError(
      "dimensions",
      `${provider.model} cannot return vectors of ${dimensions} dimensions`,
    );
  const [vector] = requireUsable(
    provider.model,
    await provider.embed([text], { purpose: "query", ...options }),
  );
  if (vector === undefined) throw new Error("the provider returned no vector");
  return vector;
}
