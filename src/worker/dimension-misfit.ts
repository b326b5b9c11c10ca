import type { Provider } from "../providers/provider.js";
import type { Pipeline } from "../database/pipeline.js";

/** Why a model's vectors do not fit into a column, and what to do; null: they do. */
export function dimensionMisfit(
  pipeline: Pick<Pipeline, "relation" | "embedding" | "embeddingType" | "dimensions">,
  provider: Provider,
): { what: string; cure: string } | null {
  const { model, dimensions } = provider;
  if (provider.supportsDimensions(pipeline.dimensions)) return null;
  const type = pipeline.embeddingType.replace(/\(\d+\)/, `(${dimensions})`);
  return {
    what: `column ${pipeline.embedding} of ${pipeline.relation} is ${pipeline.embeddingType}, but ${model} makes ${dimensions} dimensions`,
    cure: `embedd switch-model, or an EMBEDD_MODEL of ${pipeline.dimensions} dimensions, or without its vectors: ALTER TABLE ${pipeline.relation} ALTER COLUMN ${pipeline.embedding} TYPE ${type} USING NULL;`,
  };
}
