import { setImmediate as turn } from "node:timers/promises";
import { APIError, OpenAI } from "openai";
import type { Answer } from "./answer.js";
import { errorInBody, parseAnswer } from "./answer.js";
import { answerLimits } from "./bounded-body.js";
import { openConnections } from "./connections.js";
import type { ApiSettings } from "./settings.js";

/** Sends single requests through OpenAI's SDK. */
export interface Client {
  /** @throws an error that `classify` understands */
  create(
    request: WireRequest,
    signal: AbortSignal,
    progress: Progress,
  ): Promise<Answer & { headers: Headers }>;
  /** Closes the connections. Idempotent. */
  close(): Promise<void>;
}

export interface Progress {
  /** Called when the connection is ready and the first byte of the request is about to be written. */
  onSent: () => void;
  /** Called when the whole body has arrived, before it is parsed. */
  onReceived: () => void;
}

export interface WireRequest {
  texts: readonly string[];
  /** null: the model's native dimensions. */
  dimensions: number | null;
  /** Components of the vectors that the answer should have; null: any. It bounds what is read. */
  expected: number | null;
  encoding: "base64" | "float";
}

/**
 * Uses the SDK for transport only. Its retries are off because they bypass the breaker and the meter, its
 * log is off because it contains inputs, and it reads no settings from the environment. Its timeout stops at
 * the first byte of the answer, so the caller's signal must bound the whole request.
 */
export function createClient(settings: ApiSettings): Client {
  const { key, keyHeader, baseUrl, query, headers, wireModel, timeoutMs } = settings;
  const connections = openConnections(baseUrl);
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
    fetch: connections.fetch,
  });
  // The SDK has no option for this: it would send OPENAI_CUSTOM_HEADERS, perhaps with a key, to any host.
  Reflect.set(Reflect.get(sdk, "_options") as object, "defaultHeaders", undefined);

  return {
    async create({ texts, dimensions, expected, encoding }, signal, { onSent, onReceived }) {
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
            fetchOptions: connections.optionsOf(onSent, answerLimits(texts.length, expected)),
          },
        )
        .asResponse();
      const body = await response.text();
      onReceived();
      // Parsing takes a few milliseconds; let the next request go out first.
      await turn();
      const parsed: unknown = JSON.parse(body);
      const failed = errorInBody(parsed);
      if (failed !== null) throw APIError.generate(failed.status, failed.error, undefined, response.headers);
      return { ...parseAnswer(parsed, texts.length), headers: response.headers };
    },
    close: () => connections.close(),
  };
}
