import type { Preset } from "./presets.js";

/** What embedd knows about a model from its name. */
export interface KnownModel {
  dimensions: number;
  /** Whether the model can return fewer dimensions on request. */
  shortens: boolean;
  /** OpenAI's list price in US dollars per million tokens; null: OpenAI does not sell it. */
  usdPerMillionTokens: number | null;
  /** Maximum tokens per input, counted with cl100k_base; null: unknown, or another tokenizer. */
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

/** A model's name with and without its publisher. */
export interface ModelNames {
  /** Stored with every vector: the same on every host. */
  model: string;
  /** Sent to the host. */
  wire: string;
}

/**
 * `text-embedding-3-small` and `openai/text-embedding-3-small` are the same model, so moving to another host
 * makes no row stale. Unknown names stay unchanged.
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

/** Looks up a model by name; ignores the tag `:latest`. */
export function knownModel(model: string): KnownModel | undefined {
  return Object.hasOwn(MODELS, model) ? MODELS[model] : MODELS[model.replace(/:latest$/, "")];
}
