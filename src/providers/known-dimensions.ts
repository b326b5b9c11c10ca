import { knownModel } from "./openai/models.js";

/** The built-in model. */
export const DEFAULT_MODEL = "all-MiniLM-L6-v2";
export const DEFAULT_DIMENSIONS = 384;

/** A model's native dimensions, or undefined for an unknown model. The name may have a `publisher/` prefix. */
export function knownDimensions(model: string): number | undefined {
  const own = model.replace(/^.*\//, "");
  return own === DEFAULT_MODEL ? DEFAULT_DIMENSIONS : knownModel(own)?.dimensions;
}
