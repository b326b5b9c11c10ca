/** Components of a vector by model, as its makers say; a name may carry its publisher, as `openai/…`. */
const DIMENSIONS: Readonly<Record<string, number>> = {
  "all-MiniLM-L6-v2": 384,
  "text-embedding-3-small": 1_536,
  "text-embedding-3-large": 3_072,
  "text-embedding-ada-002": 1_536,
};

/** A model's own number of dimensions, or undefined where it is not known here. */
export function knownDimensions(model: string): number | undefined {
  return DIMENSIONS[model.replace(/^.*\//, "")];
}
