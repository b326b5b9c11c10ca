import { createServer } from "node:http";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { createGzip } from "node:zlib";
import { hashVector } from "./providers.js";

/** A request as the script sees it. */
export interface ApiRequest {
  /** From 0. */
  number: number;
  url: string;
  headers: IncomingHttpHeaders;
  model: string;
  texts: string[];
  dimensions: number | undefined;
  encoding: "base64" | "float" | undefined;
}

export interface EmbeddingItem {
  object: "embedding";
  index: number;
  embedding: string | (number | null)[];
}

/** A fault, instead of the good answer. */
export interface Reply {
  latencyMs?: number;
  /** Answer with this status and `body` only. */
  status?: number;
  headers?: Record<string, string>;
  /** A string is sent as it is, anything else as JSON. */
  body?: unknown;
  /** With `status`: sent again and again until the client leaves, as `content-encoding: gzip` if `headers` say so. */
  endless?: string;
  /** The good answer's items, changed. */
  change?: (items: EmbeddingItem[]) => unknown;
  /** The connection ends before or in the middle of the answer. */
  reset?: "before" | "middle";
  /** The server ends, and refuses connections for this time. */
  restartMs?: number;
  /** Half of the answer is sent at once, the rest after this time. */
  slowBodyMs?: number;
}

export interface ApiServerOptions {
  /** The fault of a request; undefined for a good answer. */
  script?: (request: ApiRequest) => Reply | undefined;
  latencyMs?: number;
  /** @default any key is accepted */
  key?: () => string;
  /** Dimensions of the vectors if a request names none. @default 1536 */
  dimensions?: number;
  /** `ignored`: always answers with numbers. `refused`: 400. @default taken */
  base64?: "taken" | "ignored" | "refused";
  /** Sent with every good answer. */
  headers?: () => Record<string, string>;
  /** `none`: good answers have no `usage`. @default reported */
  usage?: "reported" | "none";
  /** The model that good answers name. @default the request's */
  model?: string;
  /** Tokens of a text in `usage`. @default its number of words */
  tokens?: (text: string) => number;
}

export interface ApiServer {
  url: string;
  requests: ApiRequest[];
  /** The most requests that were in flight at once. */
  readonly maxInFlight: number;
  readonly connections: number;
  stop(): Promise<void>;
}

/** A server on loopback that speaks OpenAI's `/embeddings`, with `hashVector`'s vectors, and fails as its script says. */
export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const requests: ApiRequest[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  let inFlight = 0;
  let maxInFlight = 0;
  const server = createServer((request, response) => {
    inFlight++;
    maxInFlight = Math.max(maxInFlight, inFlight);
    response.once("close", () => inFlight--);
    answer(request, response, options, requests, restart).catch(() => response.destroy());
  });
  let restarting: NodeJS.Timeout | undefined;
  function restart(ms: number): void {
    if (!server.listening) return;
    const { port } = server.address() as AddressInfo;
    server.close();
    for (const socket of sockets) socket.destroy();
    restarting = setTimeout(() => server.listen(port, "127.0.0.1"), ms);
  }
  server.on("connection", (socket) => {
    connections++;
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  return {
    url,
    requests,
    get maxInFlight() {
      return maxInFlight;
    },
    get connections() {
      return connections;
    },
    stop: () =>
      new Promise((resolve) => {
        clearTimeout(restarting);
        server.close(() => {
          resolve();
        });
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** An error as OpenAI writes it; the message quotes the input, as servers may. */
export function apiError(
  status: number,
  error: { code?: string; param?: string; type?: string; message?: string } = {},
  headers: Record<string, string> = {},
): Reply {
  const { message = "something is wrong", ...rest } = error;
  return { status, headers, body: { error: { message, type: "error", code: null, param: null, ...rest } } };
}

/** From 0 to 1, the same every time. Source: mulberry32. */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function answer(
  message: IncomingMessage,
  response: ServerResponse,
  options: ApiServerOptions,
  requests: ApiRequest[],
  restart: (ms: number) => void,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  const body = JSON.parse(Buffer.concat(chunks).toString()) as {
    model: string;
    input: string | string[];
    dimensions?: number;
    encoding_format?: "base64" | "float";
  };
  const request: ApiRequest = {
    number: requests.length,
    url: message.url ?? "",
    headers: message.headers,
    model: body.model,
    texts: [body.input].flat(),
    dimensions: body.dimensions,
    encoding: body.encoding_format,
  };
  requests.push(request);
  const reply = options.script?.(request) ?? refusal(request, options) ?? {};
  const latencyMs = reply.latencyMs ?? options.latencyMs;
  if (latencyMs !== undefined) await sleep(latencyMs, undefined, { ref: false });
  if (reply.status !== undefined && reply.endless !== undefined) {
    response.writeHead(reply.status, { "content-type": "application/json", ...reply.headers });
    const body = Readable.from(repeat(reply.endless));
    const gzip = reply.headers?.["content-encoding"] === "gzip";
    await (gzip ? pipeline(body, createGzip(), response) : pipeline(body, response)).catch(() => undefined);
    return;
  }
  if (reply.status !== undefined) {
    const text = typeof reply.body === "string" ? reply.body : JSON.stringify(reply.body ?? {});
    response.writeHead(reply.status, { "content-type": "application/json", ...reply.headers }).end(text);
    return;
  }
  if (reply.restartMs !== undefined) {
    restart(reply.restartMs);
    return;
  }
  if (reply.reset === "before") {
    response.destroy();
    return;
  }
  const text = JSON.stringify(goodAnswer(request, options, reply.change));
  response.writeHead(200, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    ...options.headers?.(),
    ...reply.headers,
  });
  const half = text.length >> 1;
  if (reply.reset === "middle") response.write(text.slice(0, half), () => response.destroy());
  else if (reply.slowBodyMs !== undefined) {
    response.write(text.slice(0, half));
    await sleep(reply.slowBodyMs, undefined, { ref: false });
    response.end(text.slice(half));
  } else response.end(text);
}

function* repeat(text: string): Generator<string> {
  const piece = text.repeat(Math.ceil(65_536 / text.length));
  for (;;) yield piece;
}

function refusal({ headers, encoding }: ApiRequest, options: ApiServerOptions): Reply | undefined {
  const key = options.key?.();
  if (key !== undefined && headers.authorization !== `Bearer ${key}` && headers["api-key"] !== key) {
    return apiError(401, {
      code: "invalid_api_key",
      message: `Incorrect API key provided: ${String(headers.authorization)}`,
    });
  }
  if (options.base64 === "refused" && encoding === "base64") return apiError(400, { type: "BadRequest" });
  return undefined;
}

function goodAnswer(
  { texts, dimensions, encoding, model }: ApiRequest,
  options: ApiServerOptions,
  change: (items: EmbeddingItem[]) => unknown = (items) => items,
): unknown {
  const items = texts.map((text, index): EmbeddingItem => {
    // Not of unit length, as shortened vectors of some servers are not.
    const vector = hashVector(text, dimensions ?? options.dimensions ?? 1_536).map((x) => 3 * x);
    const base64 = encoding === "base64" && (options.base64 ?? "taken") === "taken";
    return {
      object: "embedding",
      index,
      embedding: base64 ? Buffer.from(vector.buffer).toString("base64") : [...vector],
    };
  });
  const words = (text: string): number => text.split(/\s+/).length;
  const tokens = texts.reduce((sum, text) => sum + (options.tokens ?? words)(text), 0);
  return {
    object: "list",
    data: change(items),
    model: options.model ?? model,
    ...(options.usage !== "none" && { usage: { prompt_tokens: tokens, total_tokens: tokens } }),
  };
}
