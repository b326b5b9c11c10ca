import type { Preset } from "./presets.js";

/** What is known of a model by its name alone. */
export interface KnownModel {
  dimensions: number;
  /** Any smaller number of dimensions can be asked for. */
  shortens: boolean;
  /** US dollars for a million tokens, by OpenAI's list price; null: not sold there. */
  usdPerMillionTokens: number | null;
  /** The most tokens of an input, counted by cl100k_base; null: unknown, or counted otherwise. */
  inputTokens: number | null;
}

const openai = (dimensions: number, shortens: boolean, usdPerMillionTokens: number): KnownModel => ({
  dimensions,
  shortens,
  usdPerMillionTokens,
  inputTokens: 8_191,
});
const open = (dimensions: number): KnownModel => ({
  dimensions,
  shortens: false,
  usdPerMillionTokens: null,
  inputTokens: null,
});

const MODELS: Readonly<Record<string, KnownModel>> = {
  "text-embedding-3-small": openai(1_536, true, 0.02),
  "text-embedding-3-large": openai(3_072, true, 0.13),
  "text-embedding-ada-002": openai(1_536, false, 0.1),
  "all-minilm": open(384),
  "bge-m3": open(1_024),
  "mxbai-embed-large": open(1_024),
  "nomic-embed-text": open(768),
  "snowflake-arctic-embed2": open(1_024),
};

/** The model's own name without its publisher, and the name by which the host knows it. */
export interface ModelNames {
  /** Written beside every vector: the same on every host of the same model. */
  model: string;
  wire: string;
}

/**
 * `text-embedding-3-small` and `openai/text-embedding-3-small` are one model, so moving from one host to
 * another makes no row stale. A name that is not known stays as it is given.
 */
export function modelNames(given: string, preset: Pick<Preset, "publisher">): ModelNames {
  const slash = given.indexOf("/");
  const own = slash < 0 ? given : given.slice(slash + 1);
  if (preset.publisher !== null) {
    return { model: own, wire: slash < 0 && own in MODELS ? `${preset.publisher}/${own}` : given };
  }
  const isOpenai = (MODELS[own]?.inputTokens ?? null) !== null;
  return { model: isOpenai ? own : given, wire: given };
}

/** A tag such as `:latest` does not change what a model is. */
export function knownModel(model: string): KnownModel | undefined {
  return Object.hasOwn(MODELS, model) ? MODELS[model] : MODELS[model.replace(/:latest$/, "")];
}
