import { shellWord } from "../shell-word.js";
import type { WatchOptions } from "./watch.sql.js";

/** What to type in a shell to watch a table with these options. */
export function watchCommand(options: WatchOptions): string {
  const { relation, content, embedding, modelColumn, template, model, index, createColumns } = options;
  const words: Record<string, string | undefined> = {
    content: content.map(shellWord).join(" "),
    embedding: embedding === "embedding" ? undefined : shellWord(embedding),
    "model-column": modelColumn === undefined ? undefined : shellWord(modelColumn),
    template: template === undefined ? undefined : shellWord(template),
    model: model === undefined ? undefined : shellWord(model),
    index,
    dimensions: createColumns === undefined ? undefined : String(createColumns),
  };
  const given = Object.entries(words).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name} ${value}`],
  );
  return [
    "embedd watch",
    shellWord(relation),
    ...given,
    ...(createColumns === undefined ? [] : ["--create-columns"]),
  ].join(" ");
}
