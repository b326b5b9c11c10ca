import type { ModelShape } from "../providers/model-shape.js";
import type { Pipeline } from "../database/pipeline.js";
import { shellWord } from "../shell-word.js";

/** Why a model's vectors do not fit into a column, and what to do; null: they fit. */
export function dimensionMisfit(
  pipeline: Pick<Pipeline, "relation" | "embedding" | "embeddingType" | "dimensions" | "servedModel">,
  provider: ModelShape,
): { what: string; cure: string } | null {
  const { relation, embedding, embeddingType } = pipeline;
  const { model, dimensions } = provider;
  if (provider.supportsDimensions(pipeline.dimensions)) return null;
  const table = shellWord(relation);
  const otherModel = `an EMBEDD_MODEL with ${pipeline.dimensions} dimensions`;
  return {
    what: `column ${embedding} of ${relation} is ${embeddingType}, but ${model} makes ${dimensions} dimensions`,
    // Without a current model there is none to switch from. Its triggers keep the column's type from being changed.
    cure:
      pipeline.servedModel === null
        ? `embedd unwatch ${table} --drop-columns  # then watch it with --create-columns --dimensions ${dimensions}; or use ${otherModel}`
        : `embedd switch-model ${table} --model ${model} --dimensions ${dimensions}  # or use ${otherModel}`,
  };
}
