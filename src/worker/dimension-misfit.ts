import type { ModelShape } from "../providers/model-shape.js";
import type { Pipeline } from "../database/pipeline.js";
import { shellWord } from "../shell-word.js";

type Shape = Pick<
  Pipeline,
  "relation" | "embedding" | "embeddingType" | "dimensions" | "servedModel" | "contentNames" | "template"
>;

/** Why a model's vectors do not fit into a column, and the one command that helps; null: they fit. */
export function dimensionMisfit(
  pipeline: Shape,
  provider: ModelShape,
): { what: string; cure: string } | null {
  const { relation, embedding, servedModel } = pipeline;
  const type = pipeline.embeddingType.replace(/^.*\./, "");
  const { model, dimensions } = provider;
  if (provider.supportsDimensions(pipeline.dimensions)) return null;
  return {
    what: `column ${embedding} of ${relation} is ${type}, but ${model} makes ${dimensions} dimensions`,
    // Without a current model there is none to switch from.
    cure:
      servedModel === null
        ? watchAnother(pipeline, dimensions)
        : `embedd switch-model ${shellWord(relation)} --model ${shellWord(model)} --dimensions ${dimensions}`,
  };
}

/** The column and its vectors stay: they may be another model's. */
function watchAnother({ relation, embedding, contentNames, template }: Shape, dimensions: number): string {
  const table = shellWord(relation);
  const column = embedding.startsWith('"') ? embedding.slice(1, -1).replaceAll('""', '"') : embedding;
  const words = [
    `--content ${contentNames.map(shellWord).join(" ")}`,
    ...(template === null ? [] : [`--template ${shellWord(template)}`]),
    `--embedding ${shellWord(`${column}_${dimensions}`)} --create-columns --dimensions ${dimensions}`,
  ];
  return `embedd unwatch ${table} --embedding ${shellWord(column)} && embedd watch ${table} ${words.join(" ")}`;
}
