import { Agent, DecoratorHandler, fetch as undiciFetch } from "undici";
import type { Dispatcher, RequestInit as UndiciInit } from "undici";

/** The connections of one provider: kept alive, one per request in flight, shared with nothing else in the process. */
export interface Connections {
  /** Follows no redirect: it would carry the headers, such as a key, and the texts to another server. */
  fetch: typeof globalThis.fetch;
  /** Passed to `fetch` for one request. @param onSent called before the request's first byte is written */
  optionsOf(onSent: () => void): object;
  /** Idempotent. */
  close(): Promise<void>;
}

/** Node's own `fetch` gives up after 300 s without an answer and shares its connections with the whole process. */
export function openConnections(): Connections {
  // The caller bounds each request.
  const dispatcher: Dispatcher = new Agent({ headersTimeout: 0, bodyTimeout: 0 });
  let closed: Promise<void> | undefined;
  return {
    fetch: ((url: string, { headers, ...init }: UndiciInit = {}) =>
      undiciFetch(url, {
        ...init,
        headers: withoutPlatform(new Headers(headers as Record<string, string>)),
        redirect: "manual",
      })) as unknown as typeof globalThis.fetch,
    optionsOf: (onSent) => ({
      dispatcher: dispatcher.compose(
        (dispatch) => (options, handler) => dispatch(options, new SentHandler(handler, onSent)),
      ),
    }),
    close: () => (closed ??= dispatcher.destroy()),
  };
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
