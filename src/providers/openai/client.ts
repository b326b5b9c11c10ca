import { setImmediate as turn } from "node:timers/promises";
import { OpenAI } from "openai";
import type { Answer } from "./answer.js";
import { parseAnswer } from "./answer.js";
import type { ApiSettings } from "./settings.js";

/** Sends single requests through OpenAI's SDK. */
export interface Client {
  /**
   * @param onReceived called when the whole body has arrived, before it is parsed
   * @throws an error that `classify` understands
   */
  create(
    request: WireRequest,
    signal: AbortSignal,
    onReceived: () => void,
  ): Promise<Answer & { headers: Headers }>;
}

export interface WireRequest {
  texts: readonly string[];
  /** null: the model's native dimensions. */
  dimensions: number | null;
  encoding: "base64" | "float";
}

/**
 * Uses the SDK for transport only. Its retries are off because they bypass the breaker and the meter, its
 * log is off because it contains inputs, and it reads no settings from the environment. Its timeout stops at
 * the first byte of the answer, so the caller's signal must bound the whole request. Node's `fetch` provides
 * the connections: kept alive, one per request in flight.
 */
export function createClient(settings: ApiSettings): Client {
  const { key, keyHeader, baseUrl, query, headers, wireModel, timeoutMs } = settings;
  const sdk = new OpenAI({
    baseURL: baseUrl,
    defaultQuery: query,
    // Never sent: the header below overrides it, because the key can change.
    apiKey: "unused",
    adminAPIKey: null,
    organization: null,
    project: null,
    webhookSecret: null,
    maxRetries: 0,
    timeout: timeoutMs,
    logLevel: "off",
  });
  // The SDK has no option for this: it would send OPENAI_CUSTOM_HEADERS, perhaps with a key, to any host.
  Reflect.set(Reflect.get(sdk, "_options") as object, "defaultHeaders", undefined);

  return {
    async create({ texts, dimensions, encoding }, signal, onReceived) {
      const current = key.current();
      const authorization = keyHeader === "authorization" && current !== null ? `Bearer ${current}` : null;
      const response = await sdk.embeddings
        .create(
          {
            model: wireModel,
            input: [...texts],
            encoding_format: encoding,
            ...(dimensions !== null && { dimensions }),
          },
          {
            signal,
            headers: {
              Authorization: authorization,
              ...(keyHeader === "api-key" && current !== null && { "api-key": current }),
              ...headers.reveal(),
            },
          },
        )
        .asResponse();
      const body = await response.text();
      onReceived();
      // Parsing takes a few milliseconds; let the next request go out first.
      await turn();
      return { ...parseAnswer(JSON.parse(body), texts.length), headers: response.headers };
    },
  };
}
