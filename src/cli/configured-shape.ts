import type { Config } from "../config.js";
import { DEFAULT_MODEL } from "../providers/known-dimensions.js";
import { directoryManifest } from "../providers/local/manifest.js";
import type { ModelShape } from "../providers/model-shape.js";
import { shapeOf, shapeOfPreset } from "../providers/model-shape.js";

/** The vectors of the model that the settings name, without loading it or asking a server; null: not known. */
export async function configuredShape(config: Config): Promise<ModelShape | null> {
  const { provider, modelPath, modelName } = config;
  if (provider !== "local") return shapeOfPreset(provider, config);
  if (modelPath === undefined) return shapeOf(DEFAULT_MODEL);
  try {
    const { name, dimensions } = await directoryManifest(modelPath, modelName);
    return { model: name, dimensions, supportsDimensions: (asked) => asked === dimensions };
  } catch {
    // Loading the model says what is wrong with it.
    return null;
  }
}
