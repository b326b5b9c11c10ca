import { knownModel } from "./openai/models.js";

/** A model's own number of dimensions, or undefined where its name does not tell; it may carry its publisher. */
export function knownDimensions(model: string): number | undefined {
  const own = model.replace(/^.*\//, "");
  return own === "all-MiniLM-L6-v2" ? 384 : knownModel(own)?.dimensions;
}
