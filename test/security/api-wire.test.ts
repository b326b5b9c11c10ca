import zlib from "node:zlib";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { createApiProvider } from "#embedd/providers/openai/index.js";
import type { ApiProviderOptions } from "#embedd/providers/openai/index.js";
import type { Provider } from "#embedd/providers/provider.js";
import { drip, startRawApiServer, writeEndlessly } from "../helpers/raw-api-server.js";
import type { RawAnswer, RawApiServer } from "../helpers/raw-api-server.js";
import { waitFor } from "../helpers/wait.js";
import { failure, numbered } from "../unit/providers/openai/start.js";

const DIMENSIONS = 8;
const OK = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
const CHUNKED = "transfer-encoding: chunked\r\n\r\n";
/** The system's buffers on both sides of a connection. */
const BUFFERS_MB = 24;
/** A request that fails is sent again this often, with the text that tells whether the server works. */
const MOST_REQUESTS = 12;

async function start(
  answer: RawAnswer,
  options: Partial<ApiProviderOptions> = {},
): Promise<{ server: RawApiServer; provider: Provider }> {
  const server = await startRawApiServer(answer);
  onTestFinished(() => server.stop());
  const provider = await createApiProvider({
    provider: "openai",
    apiKey: "sk-test",
    baseUrl: server.url,
    // A model that embedd does not know: only the column's dimensions tell how large an answer can be.
    model: "text-embedding-unknown",
    dimensions: DIMENSIONS,
    ...options,
  });
  onTestFinished(() => provider.close());
  return { server, provider };
}

/** As fast as it is read: field names that all differ. */
function writeFields(socket: Parameters<RawAnswer>[0]): void {
  let count = 0;
  const next = (): void => {
    if (socket.destroyed) return;
    let piece = "";
    for (let i = 0; i < 10_000; i++) piece += `"field${count++}":1,`;
    if (socket.write(piece)) setImmediate(next);
    else socket.once("drain", next);
  };
  next();
}

describe("of an answer to a large batch, embedd reads only what its vectors can need:", () => {
  it.each<[string, RawAnswer]>([
    ["white space", (socket) => writeEndlessly(socket, " ")],
    ["lists in lists", (socket) => writeEndlessly(socket, "[")],
    [
      "field names",
      (socket) => {
        socket.write("{");
        writeFields(socket);
      },
    ],
    ["empty lists", (socket) => (socket.write('{"data":['), writeEndlessly(socket, "[],"))],
    ["strings", (socket) => (socket.write('{"data":['), writeEndlessly(socket, '"",'))],
    ["one number", (socket) => writeEndlessly(socket, "1")],
    ["one string", (socket) => (socket.write('"'), writeEndlessly(socket, "x"))],
    ["a string of escapes", (socket) => (socket.write('"'), writeEndlessly(socket, "\\"))],
  ])("%s without an end", async (_, body) => {
    const { server, provider } = await start((socket, request) => {
      socket.write(`${OK}\r\n`);
      return body(socket, request);
    });
    const error = await failure(provider.embed(numbered(2_048)));
    expect(error).toMatchObject({ kind: "provider", code: "wrong_answer" });
    await waitFor(() => server.open === 0, { what: "the connections to be closed" });
    // 2,048 texts of 8 dimensions need less than 1 MB; each request reads at most 4.
    expect(server.bytesWritten / 1e6).toBeLessThan(server.requests * (4 + BUFFERS_MB));
    expect(server.requests).toBeLessThanOrEqual(MOST_REQUESTS);
  });

  it("a gzip bomb of 1.2 MB that expands to 1.3 GB", async () => {
    // Compressed parts may follow one another, so 16 MB are compressed only once.
    const part = zlib.gzipSync(Buffer.alloc(2 ** 24, " "), { level: 9 });
    const bomb = Buffer.concat(Array.from({ length: 80 }, () => part));
    const decoders: zlib.Gunzip[] = [];
    const { createGunzip } = zlib;
    const spy = vi.spyOn(zlib, "createGunzip").mockImplementation((options) => {
      const decoder = createGunzip(options);
      decoders.push(decoder);
      return decoder;
    });
    onTestFinished(() => {
      spy.mockRestore();
    });
    const { provider } = await start((socket) => {
      socket.write(`${OK}content-encoding: gzip\r\ncontent-length: ${bomb.length}\r\n\r\n`);
      socket.write(bomb);
    });
    const error = await failure(provider.embed(numbered(2_048)));
    expect(error).toMatchObject({ kind: "provider", code: "wrong_answer" });
    expect(decoders.length).toBeGreaterThan(0);
    // A decoder reads 64 kB at a time.
    for (const { bytesWritten } of decoders) expect(bytesWritten).toBeLessThan(bomb.length / 8);
  });

  it("more content codings than a client undoes", async () => {
    const { provider } = await start((socket) => {
      socket.write(
        `${OK}content-encoding: ${Array(6).fill("gzip").join(", ")}\r\ncontent-length: 2\r\n\r\n{}`,
      );
    });
    expect(await failure(provider.embed(["a"]))).toMatchObject({
      code: "wrong_answer",
      message: expect.stringMatching(
        /^127\.0\.0\.1:\d+ returned an answer with too many content codings/,
      ) as string,
    });
  });

  it("of an error, 64 kB", async () => {
    const { server, provider } = await start((socket) => {
      socket.write("HTTP/1.1 500 Fault\r\n\r\n");
      return writeEndlessly(socket, "x");
    });
    expect(await failure(provider.embed(["a"]))).toMatchObject({ kind: "provider", code: "unavailable" });
    await waitFor(() => server.open === 0, { what: "the connections to be closed" });
    expect(server.bytesWritten / 1e6).toBeLessThan(server.requests * BUFFERS_MB);
  });

  it("an answer whose strings hold every sign of JSON is not refused", async () => {
    const noise = '[{"\\'.repeat(100_000);
    const { provider } = await start((socket, { texts }) => {
      const data = texts.map((_, index) => ({ index, embedding: Array<number>(DIMENSIONS).fill(1) }));
      const body = JSON.stringify({ note: noise, data });
      socket.write(`${OK}content-length: ${Buffer.byteLength(body)}\r\n\r\n`);
      // In pieces, so that some end within an escape.
      for (let i = 0; i < body.length; i += 4_097) socket.write(body.slice(i, i + 4_097));
    });
    await expect(provider.embed(["a", "b"])).resolves.toHaveLength(2);
  });
});

describe("a server that never ends what comes before or around its answer is left:", () => {
  it.each<[string, RawAnswer]>([
    ["headers", (socket) => (socket.write(OK), writeEndlessly(socket, "x-more: headers\r\n"))],
    ["one header", (socket) => (socket.write(`${OK}x-long: `), writeEndlessly(socket, "x"))],
    ["the status line", (socket) => (socket.write("HTTP/1.1 200 "), writeEndlessly(socket, "x"))],
    ["trailers", (socket) => (socket.write(`${OK}${CHUNKED}0\r\n`), writeEndlessly(socket, "x: y\r\n"))],
    ["something that is not HTTP", (socket) => writeEndlessly(socket, "\0\x01\x02")],
    ["interim answers", (socket) => writeEndlessly(socket, "HTTP/1.1 102 Processing\r\n\r\n")],
    ["a chunk's size", (socket) => (socket.write(`${OK}${CHUNKED}1`), writeEndlessly(socket, "0"))],
    ["a chunk's extension", (socket) => (socket.write(`${OK}${CHUNKED}1;`), writeEndlessly(socket, "x"))],
  ])("%s", async (_, answer) => {
    const { server, provider } = await start(answer, { timeoutMs: 1_000 });
    const error = await failure(provider.embed(["a"]));
    expect(error.kind).toBe("provider");
    expect(["unreachable", "timeout", "wrong_answer"]).toContain(error.code);
    await waitFor(() => server.open === 0, { what: "the connections to be closed" });
  });

  it.each<[string, RawAnswer]>([
    [
      "its headers",
      (socket) => {
        socket.write(OK);
        drip(socket, "x: y\r\n");
      },
    ],
    [
      "its answer",
      (socket) => {
        socket.write(`${OK}\r\n`);
        drip(socket, " ");
      },
    ],
    [
      "its chunks",
      (socket) => {
        socket.write(`${OK}${CHUNKED}`);
        drip(socket, "1\r\n \r\n");
      },
    ],
    [
      "an error",
      (socket) => {
        socket.write("HTTP/1.1 500 Fault\r\n\r\n");
        drip(socket, " ");
      },
    ],
    [
      "a redirect",
      (socket) => {
        socket.write("HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n");
        drip(socket, " ");
      },
    ],
    [
      "a compressed answer",
      (socket) => {
        socket.write(`${OK}content-encoding: gzip\r\n\r\n`);
        drip(socket, zlib.gzipSync(" ".repeat(1_000)));
      },
    ],
  ])("a byte at a time of %s, at EMBEDD_TIMEOUT_MS", async (_, answer) => {
    const { server, provider } = await start(answer, { timeoutMs: 500 });
    expect(await failure(provider.embed(["a"]))).toMatchObject({ kind: "provider", code: "timeout" });
    await waitFor(() => server.open === 0, { what: "the connections to be closed" });
  });
});
