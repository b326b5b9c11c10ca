import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { apiError, seededRandom, startApiServer } from "../../../helpers/api-server.js";
import type { ApiRequest, Reply } from "../../../helpers/api-server.js";
import { cosine, hashVector } from "../../../helpers/providers.js";
import type { EmbeddError } from "#embedd/errors.js";
import { waitFor } from "../../../helpers/wait.js";
import { failure, KEY, numbered, start } from "./start.js";

const HTML = "<!doctype html><h1>Something went wrong</h1>";
const html = { "content-type": "text/html" };

/** Faults of the first request only. */
const once =
  (reply: Reply) =>
  ({ number }: { number: number }): Reply | undefined =>
    number === 0 ? reply : undefined;

describe("a temporary fault is retried, and no row counts as failed:", () => {
  it.each<[string, Reply]>([
    ["500", apiError(500)],
    ["408", apiError(408)],
    ["409", apiError(409)],
    ["429", apiError(429)],
    ["an HTML page with 502", { status: 502, body: HTML, headers: html }],
    ["an HTML page with 200", { status: 200, body: HTML, headers: html }],
    ["an HTML page with 200 that says it is JSON", { status: 200, body: HTML }],
    ["half of a JSON document", { status: 200, body: '{"data": [{"index": 0, "embedd' }],
    ["nothing at all", { status: 200, body: "" }],
    ["no content", { status: 204 }],
    ["a connection that ends before the answer", { reset: "before" }],
    ["a connection that ends within the answer", { reset: "middle" }],
    ["a 1xx-like nonsense body", { status: 200, body: "[]" }],
  ])("%s", async (_, reply) => {
    const { provider, server } = await start({ script: once(reply) });
    const [vector] = await provider.embed(["hello"]);
    expect(cosine(vector ?? [], hashVector("hello", 1_536))).toBeGreaterThan(0.999999);
    expect(server.requests).toHaveLength(2);
  });

  it.each<[string, Reply]>([
    ["its first byte", { latencyMs: 600_000 }],
    ["its last byte", { slowBodyMs: 600_000 }],
  ])("an answer that does not come in time, to %s", async (_, reply) => {
    const { provider, server } = await start({ script: once(reply) }, { timeoutMs: 3_000 });
    await provider.embed(["hello"]);
    expect(server.requests).toHaveLength(2);
  });

  it("a server that is down", async () => {
    const gone = await startApiServer();
    await gone.stop();
    const { provider } = await start({}, { baseUrl: gone.url });
    const error = await failure(provider.embed(["hello"]));
    expect(error).toMatchObject({ kind: "provider", code: "unreachable" });
    expect(error.message).toMatch(/connection to 127\.0\.0\.1:\d+ failed \(ECONNREFUSED\)/);
  });
});

describe("Retry-After", () => {
  it.each<[string, () => Record<string, string>, number]>([
    ["in seconds", () => ({ "retry-after": "1" }), 1_000],
    // A date has whole seconds.
    ["as a date", () => ({ "retry-after": new Date(Date.now() + 2_000).toUTCString() }), 900],
    ["in milliseconds", () => ({ "retry-after-ms": "700" }), 700],
  ])("%s is respected by all calls", async (_, headers, ms) => {
    const arrivals: number[] = [];
    const { provider } = await start({
      script: ({ number }) => {
        arrivals.push(performance.now());
        return number === 0 ? apiError(429, {}, headers()) : undefined;
      },
    });
    const concurrency = provider.concurrency;
    const first = provider.embed(["a"]);
    // A 429 that the provider has read halves it.
    await waitFor(() => provider.concurrency < concurrency, { what: "the 429", intervalMs: 1 });
    await Promise.all([first, provider.embed(["b"])]);
    expect(arrivals).toHaveLength(3);
    expect((arrivals[1] ?? 0) - (arrivals[0] ?? 0)).toBeGreaterThanOrEqual(ms - 20);
  });

  it("of minutes is passed to the caller, and no request is made before", async () => {
    const { provider, server } = await start({ script: () => apiError(429, {}, { "retry-after": "120" }) });
    const limited = { kind: "provider", code: "rate_limited" };
    await expect(provider.embed(["a"])).rejects.toMatchObject({ ...limited, retryAfterMs: 120_000 });
    const again = await failure(provider.embed(["a"]));
    expect(again).toMatchObject(limited);
    expect(again.retryAfterMs).toBeGreaterThan(80_000);
    expect(server.requests).toHaveLength(1);
  });

  it.each<[string, Reply, number]>([
    ["hours, with a wait of ten minutes,", apiError(429, {}, { "retry-after": "24367" }), 600_000],
    [
      "hours, if the code says so,",
      apiError(429, { code: "insufficient_quota" }, { "retry-after": "24367" }),
      24_367_000,
    ],
    [
      "days, with a wait of one day at most,",
      apiError(429, { code: "insufficient_quota" }, { "retry-after": "999999" }),
      86_400_000,
    ],
    [
      "any length, if GitHub names a daily limit,",
      apiError(429, {}, { "retry-after": "30", "x-ratelimit-type": "UserByModelByDay" }),
      30_000,
    ],
    ["any length, with the code insufficient_quota,", apiError(429, { code: "insufficient_quota" }), 600_000],
  ])("of %s is a quota", async (_, reply, retryAfterMs) => {
    const { provider, server } = await start({ script: () => reply });
    await expect(provider.embed(["a"])).rejects.toMatchObject({
      kind: "provider",
      code: "quota",
      retryAfterMs,
    });
    await expect(provider.embed(["a"])).rejects.toMatchObject({ code: "quota" });
    expect(server.requests).toHaveLength(1);
  });
});

describe("a fault that a person has to fix stops the provider, with a hint:", () => {
  it.each<[string, Reply, string, RegExp]>([
    ["401", apiError(401, { code: "invalid_api_key" }), "unauthorized", /EMBEDD_API_KEY; .*platform\.openai/],
    ["403", apiError(403), "forbidden", /EMBEDD_API_KEY may not use text-embedding-3-small/],
    [
      "404",
      apiError(404, { code: "model_not_found" }),
      "not_found",
      /EMBEDD_MODEL, EMBEDD_DEPLOYMENT or EMBEDD_BASE_URL/,
    ],
    ["405", apiError(405), "not_found", /EMBEDD_BASE_URL/],
    ["418", apiError(418), "bad_request", /answered 418\b/],
    ["400 of the model", apiError(400, { code: "model_not_found" }), "bad_request", /EMBEDD_MODEL/],
    ["400 of the dimensions", apiError(400, { param: "dimensions" }), "bad_request", /EMBEDD_DIMENSIONS/],
  ])("%s", async (_, reply, code, message) => {
    const { provider, server } = await start({ script: () => reply });
    const first = await failure(provider.embed(numbered(8)));
    expect(first).toMatchObject({ kind: "provider", code, retryAfterMs: 60_000 });
    expect(first.message).toMatch(message);
    await expect(provider.embed(["a"])).rejects.toMatchObject({ code, kind: "provider" });
    expect(server.requests).toHaveLength(1);
  });

  it("400 for every text charges no text", async () => {
    const { provider, server } = await start({ script: () => apiError(400) });
    await expect(provider.embed(numbered(8))).rejects.toMatchObject({
      kind: "provider",
      code: "bad_request",
    });
    expect(server.requests.length).toBeLessThanOrEqual(3);
  });

  it.each([401, 403])("a corrected key file is read again on a refusal with %i", async (status) => {
    const folder = await mkdtemp(join(tmpdir(), "embedd-key-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const file = join(folder, "key");
    await writeFile(file, "old-key\n");
    let right = "old-key";
    const script = ({ headers }: ApiRequest): Reply | undefined =>
      headers.authorization === `Bearer ${right}` ? undefined : apiError(status);
    const { provider, server } = await start({ script }, { apiKey: undefined, apiKeyFile: file });
    await provider.embed(["a"]);
    right = "new-key";
    await writeFile(`${file}.new`, "new-key\n");
    await rename(`${file}.new`, file);
    await provider.embed(["b"]);
    expect(server.requests.map((r) => r.headers.authorization)).toEqual([
      "Bearer old-key",
      "Bearer old-key",
      "Bearer new-key",
    ]);
    right = "third";
    const error = await failure(provider.embed(["c"]));
    expect(error).toMatchObject({ code: status === 401 ? "unauthorized" : "forbidden" });
    expect(error.message).toContain("EMBEDD_API_KEY_FILE");
  });
});

describe("a server that is down", () => {
  it("is probed by one request at a time after a while, and used again once it is up", async () => {
    let down = true;
    const { provider, server } = await start({ script: () => (down ? apiError(503) : undefined) });
    const calls = Array.from({ length: 20 }, (_, i) => failure(provider.embed([`text ${i}`])));
    for (const error of await Promise.all(calls))
      expect(error).toMatchObject({ kind: "provider", code: "unavailable" });
    // 8 are in flight, and 10 failures in a row stop all.
    expect(server.requests.length).toBeLessThanOrEqual(17);
    // On a busy machine, the pause may be over; then one request is a probe, and the next pause is longer.
    let before: number;
    let refused: EmbeddError;
    do {
      before = server.requests.length;
      refused = await failure(provider.embed(["a"]));
    } while (server.requests.length > before);
    // This tests the time that an error names, so these two waits last that long.
    expect(refused.retryAfterMs).toBeGreaterThan(0);
    await sleep(refused.retryAfterMs);
    await Promise.all([failure(provider.embed(["a"])), failure(provider.embed(["b"]))]);
    expect(server.requests, "one probe, and the other is refused").toHaveLength(before + 1);
    down = false;
    const { retryAfterMs } = await failure(provider.embed(["a"]));
    await sleep(retryAfterMs);
    await expect(provider.embed(["a"])).resolves.toHaveLength(1);
    await expect(Promise.all(numbered(20).map((text) => provider.embed([text])))).resolves.toHaveLength(20);
  });

  it("1 in 5 times at random loses nothing and costs at most 1.35 times the requests", async () => {
    const random = seededRandom(20_260_101);
    const { provider, server } = await start(
      { script: () => (random() < 0.2 ? apiError(500) : undefined) },
      { requestInputs: 10 },
    );
    const texts = numbered(4_000);
    const vectors: Float32Array[] = [];
    for (let i = 0; i < texts.length; i += 500) {
      vectors.push(...(await provider.embed(texts.slice(i, i + 500), { dimensions: 8 })));
    }
    texts.forEach((text, i) => {
      expect(cosine(vectors[i] ?? [], hashVector(text, 8))).toBeGreaterThan(0.9999);
    });
    expect(server.requests.length / 400).toBeLessThanOrEqual(1.35);
    expect(server.requests.length, "it did fail").toBeGreaterThan(440);
  });
});

describe("no error", () => {
  it.each<[string, Reply]>([
    ["401", apiError(401, { message: `Incorrect API key provided: ${KEY}`, code: "invalid_api_key" })],
    ["403", apiError(403, { message: KEY, type: KEY })],
    ["500", apiError(500, { message: KEY }, { "x-request-id": "req_123" })],
    ["a reset", { reset: "before" }],
    ["HTML", { status: 200, body: `<p>${KEY}</p>` }],
    ["404", apiError(404, { message: KEY })],
  ])("of %s shows the key or a text", async (_, reply) => {
    const { provider } = await start({ script: () => reply });
    const error = await failure(provider.embed(["a most private text"]));
    const shown = [
      inspect(error, { depth: 20, showHidden: true }),
      JSON.stringify(error),
      error.stack,
    ].join();
    expect(shown).not.toContain(KEY);
    expect(shown).not.toContain("a most private text");
    expect(inspect(provider, { depth: 20, showHidden: true })).not.toContain(KEY);
  });
});
