import type { Answer } from "./answer.js";
import { knownModel } from "./models.js";
import type { ApiSettings, Log } from "./settings.js";

/**
 * Whether the answer is from the model that was asked for. Servers spell a name in many ways, so an unknown other name
 * proves nothing; but two known models are never the same.
 * @returns `other`: another known model. `unclear`: a name that embedd does not know
 */
export function compareModel(
  { model, wireModel }: Pick<ApiSettings, "model" | "wireModel">,
  answered: Answer["model"],
): "same" | "other" | "unclear" {
  if (answered === null) return "same";
  const got = plainName(answered);
  if (got === plainName(model) || got === plainName(wireModel)) return "same";
  return knownModel(got) !== undefined && knownModel(plainName(model)) !== undefined ? "other" : "unclear";
}

/** `models/gemini-embedding-001`, `BAAI/bge-m3:latest` and `text-embedding-ada-002-v2` without what hosts add. */
function plainName(name: string): string {
  return name
    .toLowerCase()
    .replace(/^.*[/\\]/, "")
    .replace(/:[\w.-]*$/, "")
    .replace(/-v\d+(\.\d+)*$/, "");
}

/** Warns once. The name is the server's, so it is shown only if it looks like one. */
export function modelLogger({ model }: Pick<ApiSettings, "model">, log: Log | undefined) {
  let warned = false;
  return (answered: string): void => {
    if (warned) return;
    warned = true;
    log?.warn(
      { model, answered: safeName(answered) },
      "the server names another model than EMBEDD_MODEL; if it is another one, set EMBEDD_MODEL to the model that it runs",
    );
  };
}

export function safeName(answered: string): string {
  return /^[\w.:/@-]{1,80}$/.test(answered) ? answered : "another model";
}
