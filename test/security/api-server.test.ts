import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EmbeddError } from "#embedd/errors.js";
import type { UsageMeter } from "#embedd/providers/provider.js";
import { apiError } from "../helpers/api-server.js";
import type { Reply } from "../helpers/api-server.js";
import { failure, numbered, start } from "../unit/providers/openai/start.js";

const gzip = { "content-encoding": "gzip" };
const MINUTES_10 = 600_000;

describe("an API server cannot make a worker hold", () => {
  it.each<[string, Reply]>([
    ["an answer that never ends", { status: 200, endless: " " }],
    ["a compressed answer that never ends", { status: 200, endless: " ", headers: gzip }],
    ["an answer of empty lists", { status: 200, endless: "[]," }],
    ["an answer that is nested without end", { status: 200, endless: "[" }],
    ["an answer of objects in objects", { status: 200, endless: '{"a":' }],
  ])("%s", async (_, reply) => {
    const { provider } = await start({ script: () => reply });
    const error = await failure(provider.embed(["a"]));
    expect(error).toMatchObject({ kind: "provider", code: "wrong_answer" });
    expect(error.message).toMatch(/an answer (larger than the request can need|that is nested too deeply)/);
  });

  it.each<[string, Reply]>([
    ["that never ends", { status: 500, endless: "x" }],
    ["that is compressed and never ends", { status: 500, endless: "x", headers: gzip }],
    ["that is nested two million deep", { status: 500, body: "[".repeat(2_000_000) + "]".repeat(2_000_000) }],
  ])("an error %s", async (_, reply) => {
    const { provider } = await start({ script: () => reply });
    expect(await failure(provider.embed(["a"]))).toMatchObject({ kind: "provider", code: "unavailable" });
  });

  it.each([
    ["is nested, as is allowed", 60, "unavailable"],
    ["is nested too deeply", 100_000, "wrong_answer"],
  ])("an error in an answer with status 200 that %s", async (_, levels, code) => {
    const deep = `${"[".repeat(levels)}${"]".repeat(levels)}`;
    const body = `{"error": {"code": 503, "message": ${deep}}}`;
    const { provider } = await start({ script: () => ({ status: 200, body }) });
    const error = await failure(provider.embed(numbered(32)));
    expect(error).toMatchObject({ kind: "provider", code });
  });
});

describe("an API server cannot stop a worker for longer than ten minutes", () => {
  it.each<[string, Reply]>([
    ["by Retry-After", apiError(429, {}, { "retry-after": "1e308" })],
    ["by Retry-After in milliseconds", apiError(429, {}, { "retry-after-ms": "1e308" })],
    ["by a date", apiError(429, {}, { "retry-after": "Fri, 31 Dec 9999 23:59:59 GMT" })],
    ["by a duration", apiError(429, {}, { "retry-after": "99999d" })],
    ["by 503", apiError(503, {}, { "retry-after": "99999999" })],
    ["by 403", apiError(403, {}, { "retry-after": "99999999" })],
  ])("%s", async (_, reply) => {
    const { provider } = await start({ script: () => reply });
    const { retryAfterMs } = await failure(provider.embed(["a"]));
    expect(retryAfterMs).toBeGreaterThan(0);
    expect(retryAfterMs).toBeLessThanOrEqual(MINUTES_10);
  });

  it("by a limit that is used up for years", async () => {
    const { provider } = await start({
      headers: () => ({ "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "99999d" }),
    });
    await provider.embed(["a"]);
    const { code, retryAfterMs } = await failure(provider.embed(["b"]));
    expect(code).toBe("rate_limited");
    expect(retryAfterMs).toBeLessThanOrEqual(MINUTES_10);
  });
});

describe("an API server cannot falsify what is booked", () => {
  it.each([1e300, 1e15, 1e6, 0, -5, Infinity, NaN, "12", null])("by a count of %j tokens", async (count) => {
    const booked: number[] = [];
    const meter: UsageMeter = {
      reserve: () => Promise.resolve({ settle: ({ tokens }) => booked.push(tokens) }),
    };
    const { provider } = await start({ tokens: () => count as number });
    await provider.embed(["one two three four five"], { meter });
    expect(booked).toEqual([5]);
  });
});

describe("an API server that answers anything", () => {
  it("is answered with vectors or an error of embedd's", async () => {
    let body = "";
    let status = 200;
    const { provider } = await start({ script: () => ({ status, body }) });
    const item = fc.record(
      {
        index: fc.oneof(fc.integer(), fc.double(), fc.constant(null), fc.string()),
        embedding: fc.oneof(fc.jsonValue(), fc.base64String(), fc.array(fc.float(), { maxLength: 20 })),
      },
      { requiredKeys: [] },
    );
    const answer = fc.record(
      {
        data: fc.oneof(fc.array(item, { maxLength: 3 }), fc.jsonValue()),
        usage: fc.jsonValue(),
        model: fc.jsonValue(),
        error: fc.oneof(
          fc.jsonValue(),
          fc.record({ code: fc.integer({ min: 0, max: 700 }), message: fc.jsonValue() }),
        ),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          answer.map((value) => JSON.stringify(value)),
          fc.json(),
          fc.string({ unit: "binary" }),
        ),
        fc.constantFrom(200, 200, 200, 400, 429, 500),
        async (nextBody, nextStatus) => {
          [body, status] = [nextBody, nextStatus];
          const outcome = await provider.embed(["a", "b"]).catch((error: unknown) => error);
          if (outcome instanceof EmbeddError) expect(["row", "provider"]).toContain(outcome.kind);
          else expect(outcome).toHaveLength(2);
        },
      ),
      { interruptAfterTimeLimit: 5_000, numRuns: 2_000 },
    );
  });
});
