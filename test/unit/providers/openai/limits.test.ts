import { describe, expect, it } from "vitest";
import { createLimiter } from "#embedd/providers/openai/limiter.js";
import { splitRequests } from "#embedd/providers/openai/split-requests.js";
import { apiError } from "../../../helpers/api-server.js";
import { numbered, start } from "./start.js";

const signal = new AbortController().signal;
const settled = async (promise: Promise<unknown>): Promise<boolean> =>
  Promise.race([promise.then(() => true), new Promise<boolean>((resolve) => setImmediate(resolve, false))]);

describe("planning", () => {
  const input = (tokens: number, index: number) => ({ index, text: "x", tokens, cut: false });
  it("keeps the order and the limits", () => {
    const plan = splitRequests([5, 5, 5, 20, 1, 1, 1].map(input), { requestTokens: 10, requestInputs: 2 });
    expect(plan.map((request) => request.map(({ tokens }) => tokens))).toEqual([
      [5, 5],
      [5],
      [20],
      [1, 1],
      [1],
    ]);
    expect(plan.flat().map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(splitRequests([], { requestTokens: 10, requestInputs: 2 })).toEqual([]);
  });
});

describe("the limiter", () => {
  it("halves on a 429, once for all requests in flight, and grows again", async () => {
    let now = 0;
    const limiter = createLimiter(8, "host", () => now);
    const slots = await Promise.all(Array.from({ length: 8 }, () => limiter.acquire(1, signal)));
    now = 10;
    for (const slot of slots) {
      slot.overloaded(0);
      slot.release();
    }
    expect(limiter.limit).toBe(4);
    const again = await limiter.acquire(1, signal);
    now = 20;
    again.overloaded(0);
    again.release();
    expect(limiter.limit).toBe(2);
    const answered = async (count: number): Promise<void> => {
      const held = await Promise.all(Array.from({ length: count }, () => limiter.acquire(1, signal)));
      for (const slot of held) {
        slot.succeeded(new Headers());
        slot.release();
      }
    };
    for (let i = 0; i < 100; i++) await answered(1);
    expect(limiter.limit, "one at a time says nothing of three").toBeLessThan(4);
    for (let i = 0; i < 20; i++) await answered(limiter.limit);
    expect(limiter.limit).toBe(8);
  });

  it("never goes below one or above its limit", async () => {
    let now = 0;
    const limiter = createLimiter(2, "host", () => now);
    for (let i = 0; i < 5; i++) {
      const slot = await limiter.acquire(1, signal);
      now++;
      slot.overloaded(0);
      expect(limiter.limit).toBe(1);
      slot.release();
    }
    expect(limiter.limit).toBe(1);
    const held = await limiter.acquire(1, signal);
    const waiting = limiter.acquire(1, signal);
    expect(await settled(waiting)).toBe(false);
    held.release();
    (await waiting).release();
  });

  it("does not overdraw what the server says is left", async () => {
    const limiter = createLimiter(8, "host");
    const first = await limiter.acquire(100, signal);
    first.succeeded(
      new Headers({
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "250",
        "x-ratelimit-reset-tokens": "15s",
      }),
    );
    first.release();
    const began = performance.now();
    const three = Array.from({ length: 3 }, () => limiter.acquire(100, signal));
    let acquired = 0;
    for (const slot of three) slot.then(() => acquired++).catch(() => undefined);
    await settled(Promise.all(three));
    expect(acquired, "at once").toBe(2);
    for (const slot of await Promise.all(three)) slot.release();
    // 50 are missing of 1,000 in 15 s.
    expect(performance.now() - began).toBeGreaterThan(700);
  });

  it("does not overdraw it when a whole burst gets the same answer", async () => {
    const limiter = createLimiter(8, "host");
    const burst = await Promise.all(Array.from({ length: 8 }, () => limiter.acquire(1, signal)));
    const twoLeft = new Headers({
      "x-ratelimit-remaining-requests": "2",
      "x-ratelimit-reset-requests": "19s",
    });
    const next = Array.from({ length: 8 }, () => limiter.acquire(1, signal));
    let started = 0;
    for (const acquired of next) acquired.then(() => started++).catch(() => undefined);
    for (const slot of burst) {
      slot.succeeded(twoLeft);
      slot.release();
    }
    await settled(Promise.all(next));
    expect(started).toBe(2);
  });

  it("uses what a 429 says is left", async () => {
    const limiter = createLimiter(8, "host");
    const first = await limiter.acquire(1, signal);
    first.overloaded(
      0,
      new Headers({ "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "30s" }),
    );
    first.release();
    await expect(limiter.acquire(1, signal)).rejects.toMatchObject({ code: "rate_limited" });
  });

  it("refuses a call that would have to wait for long", async () => {
    const limiter = createLimiter(8, "host");
    const first = await limiter.acquire(1, signal);
    first.succeeded(
      new Headers({ "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s" }),
    );
    first.release();
    await expect(limiter.acquire(1, signal)).rejects.toMatchObject({
      kind: "provider",
      code: "rate_limited",
    });
  });

  it("removes an aborted call from the queue, and lets the next one in", async () => {
    const limiter = createLimiter(1, "host");
    const held = await limiter.acquire(1, signal);
    const controller = new AbortController();
    const aborted = limiter.acquire(1, controller.signal);
    const next = limiter.acquire(1, signal);
    controller.abort(new Error("never mind"));
    await expect(aborted).rejects.toThrow("never mind");
    held.release();
    (await next).release();
  });

  it("follows a server that accepts only a few requests at once", async () => {
    let inFlight = 0;
    const { provider, server } = await start(
      {
        latencyMs: 20,
        script: () => {
          inFlight++;
          setTimeout(() => inFlight--, 20);
          return inFlight > 2 ? apiError(429, {}, { "retry-after-ms": "10" }) : undefined;
        },
      },
      { requestInputs: 1, concurrency: 8 },
    );
    expect(provider.concurrency).toBe(10);
    await provider.embed(numbered(60), { dimensions: 4 });
    expect(provider.concurrency).toBeLessThanOrEqual(5);
    expect(server.requests.length).toBeLessThan(120);
  });
});

describe("a server that takes a second a request", () => {
  it("is kept busy with as many requests as may be in flight", async () => {
    const [batch, inFlight, rounds] = [64, 4, 5];
    const { provider, server } = await start(
      { latencyMs: 1_000 },
      { concurrency: inFlight, requestInputs: batch },
    );
    const texts = numbered(batch * inFlight * rounds);
    const began = performance.now();
    await provider.embed(texts, { dimensions: 16 });
    const rate = (texts.length / (performance.now() - began)) * 1_000;
    expect(server.maxInFlight).toBe(inFlight);
    expect(server.requests).toHaveLength(inFlight * rounds);
    // `npm run bench -- --only api` asks for 0.95; here other tests run on the same processors.
    expect(rate / ((batch * inFlight) / 1)).toBeGreaterThan(0.4);
  });
});
