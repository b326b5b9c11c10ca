import { DEFAULT_MODEL, DEFAULT_DIMENSIONS } from "./known-dimensions.js";
import { knownModel, modelNames } from "./openai/models.js";
import { PRESETS } from "./openai/presets.js";
import type { Preset, PresetName } from "./openai/presets.js";
import type { Provider } from "./provider.js";

/** What a model is called, and which vectors it makes. */
export type ModelShape = Pick<Provider, "model" | "dimensions" | "supportsDimensions">;

/** A model's vectors, by its name; null: embedd does not know it. @param asked the dimensions asked of it; undefined: any */
export function shapeOf(model: string, asked?: number): ModelShape | null {
  const own = model.replace(/^.*\//, "");
  const known = own === DEFAULT_MODEL ? { dimensions: DEFAULT_DIMENSIONS, shortens: false } : knownModel(own);
  const dimensions = asked ?? known?.dimensions;
  if (dimensions === undefined) return null;
  const shortens = known?.shortens === true && asked === undefined;
  return {
    model,
    dimensions,
    supportsDimensions: (wanted) => wanted === dimensions || (shortens && wanted >= 1 && wanted < dimensions),
  };
}

/** The vectors of an API provider's model, as far as the settings tell; null: only the server knows. */
export function shapeOfPreset(
  provider: PresetName,
  { model, dimensions }: { model?: string | undefined; dimensions?: number | undefined },
): ModelShape | null {
  const preset: Preset = PRESETS[provider];
  const given = model ?? preset.model;
  return given === null ? null : shapeOf(modelNames(given, preset).model, dimensions);
}
