import type { Provider } from "../providers/provider.js";
import type { Pipeline } from "../database/pipeline.js";

/** What a model is called, and which vectors it makes. */
export type ModelShape = Pick<Provider, "model" | "dimensions" | "supportsDimensions">;

/** Why a model's vectors do not fit into a column, and what to do; null: they fit. */
export function dimensionMisfit(
  pipeline: Pick<Pipeline, "relation" | "embedding" | "embeddingType" | "dimensions" | "servedModel">,
  provider: ModelShape,
): { what: string; cure: string } | null {
  const { relation, embedding, embeddingType } = pipeline;
  const { model, dimensions } = provider;
  if (provider.supportsDimensions(pipeline.dimensions)) return null;
  const otherModel = `an EMBEDD_MODEL with ${pipeline.dimensions} dimensions`;
  const type = embeddingType.replace(/\(\d+\)/, `(${dimensions})`);
  const alter = `ALTER TABLE ${relation} ALTER COLUMN ${embedding} TYPE ${type} USING NULL;`;
  return {
    what: `column ${embedding} of ${relation} is ${embeddingType}, but ${model} makes ${dimensions} dimensions`,
    cure:
      pipeline.servedModel === null
        ? `${alter}  -- or use ${otherModel}`
        : `embedd switch-model ${relation} --model ${model} --dimensions ${dimensions}  # or use ${otherModel}; to discard the vectors: ${alter}`,
  };
}
