/** What differs between the hosts that embedd knows. A setting overrides each of these defaults. */
export interface Preset {
  /** Without `/embeddings`; null: it must be set. */
  baseUrl: string | null;
  /** The host's name for it; null: it must be set. */
  model: string | null;
  /** Holds the key unless EMBEDD_API_KEY or EMBEDD_API_KEY_FILE is set; null: no key is needed. */
  keyVariable: string | null;
  /** Where to get a key. */
  keyFrom: string;
  keyHeader: "authorization" | "api-key";
  /** The publisher that the host prefixes to model names; null: none. */
  publisher: string | null;
  requestTokens: number;
  requestInputs: number;
  concurrency: number;
  timeoutMs: number;
  /** Whether requests are so limited or so costly that waiting for a full batch pays. */
  fullBatches: boolean;
  /** `list`: the model's list price; `unknown`: it depends on the account. */
  price: "list" | "free" | "unknown";
}

/** The most texts a request may have on any host. Source: OpenAI's API reference, "Create embeddings". */
export const MAX_REQUEST_INPUTS = 2_048;
/** Source: the same page. */
const OPENAI_LIMITS = { requestTokens: 300_000, requestInputs: MAX_REQUEST_INPUTS };
/** Bounds of settings that no host comes near. */
export const MAX_REQUEST_TOKENS = 100_000_000;
export const MAX_CONCURRENCY = 1_000;

export const PRESETS = {
  openai: {
    baseUrl: "https://api.openai.com/v1",
    model: "text-embedding-3-small",
    keyVariable: "OPENAI_API_KEY",
    keyFrom: "platform.openai.com, API keys",
    keyHeader: "authorization",
    publisher: null,
    ...OPENAI_LIMITS,
    concurrency: 8,
    timeoutMs: 60_000,
    fullBatches: true,
    price: "list",
  },
  /** Embedding models on all free tiers: 64,000 tokens per request, 5 requests at once. Source: GitHub Models' rate limits. */
  github: {
    baseUrl: "https://models.github.ai/inference",
    model: "openai/text-embedding-3-small",
    keyVariable: "GITHUB_TOKEN",
    keyFrom:
      "github.com, Settings, Developer settings, a fine-grained token with the permission models: read",
    keyHeader: "authorization",
    publisher: "openai",
    requestTokens: 64_000,
    requestInputs: MAX_REQUEST_INPUTS,
    concurrency: 5,
    timeoutMs: 60_000,
    fullBatches: true,
    price: "unknown",
  },
  azure: {
    baseUrl: null,
    model: "text-embedding-3-small",
    keyVariable: "AZURE_OPENAI_API_KEY",
    keyFrom: "the Azure portal, the resource's Keys and Endpoint",
    keyHeader: "api-key",
    publisher: null,
    ...OPENAI_LIMITS,
    concurrency: 8,
    timeoutMs: 60_000,
    fullBatches: true,
    price: "list",
  },
  /** It may run on a CPU: small requests, and time to load the model. */
  ollama: {
    baseUrl: "http://127.0.0.1:11434/v1",
    model: "nomic-embed-text",
    keyVariable: null,
    keyFrom: "the server's operator",
    keyHeader: "authorization",
    publisher: null,
    requestTokens: 32_000,
    requestInputs: 64,
    concurrency: 2,
    timeoutMs: 120_000,
    fullBatches: false,
    price: "free",
  },
  /** 32 inputs is its default for --max-client-batch-size. */
  tei: {
    baseUrl: "http://127.0.0.1:8080/v1",
    model: null,
    keyVariable: null,
    keyFrom: "the server's operator",
    keyHeader: "authorization",
    publisher: null,
    requestTokens: 64_000,
    requestInputs: 32,
    concurrency: 8,
    timeoutMs: 120_000,
    fullBatches: false,
    price: "free",
  },
} as const satisfies Record<string, Preset>;

export type PresetName = keyof typeof PRESETS;
export const PRESET_NAMES = Object.keys(PRESETS) as PresetName[];
