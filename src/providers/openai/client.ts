import { setImmediate as turn } from "node:timers/promises";
import { OpenAI } from "openai";
import type { Answer } from "./answer.js";
import { parseAnswer } from "./answer.js";
import type { ApiSettings } from "./settings.js";

/** One request over the wire, by OpenAI's SDK. */
export interface Client {
  /**
   * @param onReceived called once the last byte is there, before what it says is looked at
   * @throws what `classify` understands
   */
  create(
    request: WireRequest,
    signal: AbortSignal,
    onReceived: () => void,
  ): Promise<Answer & { headers: Headers }>;
}

export interface WireRequest {
  texts: readonly string[];
  /** null: whatever the model makes. */
  dimensions: number | null;
  encoding: "base64" | "float";
}

/**
 * Keeps the SDK from everything but the transport: it retries nothing, since its retries know no breaker
 * and no meter; it logs nothing, since its log has inputs; and the environment sets nothing. Its timeout
 * ends with the answer's first byte, so the caller's signal bounds the whole. The connections are those of
 * Node's `fetch`: kept alive, as many as there are requests in flight.
 */
export function createClient(settings: ApiSettings): Client {
  const { key, keyHeader, baseUrl, query, headers, wireModel, timeoutMs } = settings;
  const sdk = new OpenAI({
    baseURL: baseUrl,
    defaultQuery: query,
    // Never sent: the header below comes last, and a key may change.
    apiKey: "unused",
    adminAPIKey: null,
    organization: null,
    project: null,
    webhookSecret: null,
    maxRetries: 0,
    timeout: timeoutMs,
    logLevel: "off",
  });
  // No option says so: headers of OPENAI_CUSTOM_HEADERS, maybe with a key, would go to whatever host.
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
      // The next request goes out before this answer is taken apart, which takes some milliseconds.
      await turn();
      return { ...parseAnswer(JSON.parse(body), texts.length), headers: response.headers };
    },
  };
}
