import { Agent, DecoratorHandler, EnvHttpProxyAgent, fetch as undiciFetch } from "undici";
import type { Dispatcher, RequestInit as UndiciInit } from "undici";
import { configurationError } from "../../errors.js";
import { boundBody } from "./bounded-body.js";
import type { AnswerLimits } from "./bounded-body.js";

/** The connections of one provider: kept alive, one per request in flight, shared with nothing else in the process. */
export interface Connections {
  /**
   * Follows no redirect: it would carry the headers, such as a key, and the texts to another server. Bodies are cut off
   * at the limits that `optionsOf` was given.
   */
  fetch: typeof globalThis.fetch;
  /** Passed to `fetch` for one request. @param onSent called before the request's first byte is written */
  optionsOf(onSent: () => void, limits: AnswerLimits): object;
  /** Idempotent. */
  close(): Promise<void>;
}

/**
 * Node's own `fetch` gives up after 300 s without an answer, shares its connections with the whole process, and knows no
 * proxy.
 * @throws EmbeddError `configuration`/`settings` if a proxy variable is invalid
 */
export function openConnections(baseUrl: string): Connections {
  const dispatcher = openDispatcher(new URL(baseUrl).hostname);
  let closed: Promise<void> | undefined;
  return {
    fetch: (async (url: string, { headers, limits, ...init }: UndiciInit & { limits: AnswerLimits }) => {
      const response = await undiciFetch(url, {
        ...init,
        headers: withoutPlatform(new Headers(headers as Record<string, string>)),
        redirect: "manual",
      });
      return boundBody(response, limits);
    }) as unknown as typeof globalThis.fetch,
    optionsOf: (onSent, limits) => ({
      limits,
      dispatcher: dispatcher.compose(
        (dispatch) => (options, handler) => dispatch(options, new SentHandler(handler, onSent)),
      ),
    }),
    close: () => (closed ??= dispatcher.destroy()),
  };
}

function openDispatcher(hostname: string): Dispatcher {
  // The caller bounds each request.
  const options = { headersTimeout: 0, bodyTimeout: 0 };
  // A proxy reaches its own loopback, not this machine's.
  if (/^(localhost|127\.[\d.]+|\[::1\])$/.test(hostname)) return new Agent(options);
  try {
    // It reads HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
    return new EnvHttpProxyAgent(options);
  } catch {
    // The value may hold a password, and so does the error.
    const message = "HTTPS_PROXY or HTTP_PROXY: must look like http://proxy:3128";
    throw configurationError("settings", message, "env | grep -i _proxy");
  }
}

/** undici calls `onRequestStart` once the connection, its TLS handshake and a proxy's tunnel are ready. */
class SentHandler extends DecoratorHandler implements Dispatcher.DispatchHandler {
  readonly #inner: Dispatcher.DispatchHandler;
  readonly #onSent: () => void;

  constructor(inner: Dispatcher.DispatchHandler, onSent: () => void) {
    super(inner);
    this.#inner = inner;
    this.#onSent = onSent;
  }

  onRequestStart(controller: Dispatcher.DispatchController, context: unknown): void {
    this.#onSent();
    this.#inner.onRequestStart?.(controller, context);
  }
}

/** The SDK tells every server the operating system, the processor and the version of Node.js. */
function withoutPlatform(headers: Headers): [string, string][] {
  headers.set("user-agent", "embedd");
  return [...headers].filter(([name]) => !name.startsWith("x-stainless-"));
}
