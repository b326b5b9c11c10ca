import { knownModel } from "./openai/models.js";

/** A model's native dimensions, or undefined for an unknown model. The name may have a `publisher/` prefix. */
export function knownDimensions(model: string): number | undefined {
  const own = model.replace(/^.*\//, "");
  return own === "all-MiniLM-L6-v2" ? 384 : knownModel(own)?.dimensions;
}
