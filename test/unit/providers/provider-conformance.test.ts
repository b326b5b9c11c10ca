import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createProvider } from "#embedd/providers/create-provider.js";
import type { Provider } from "#embedd/providers/provider.js";
import { startApiServer } from "../../helpers/api-server.js";
import { untilComputing, withThread } from "../../helpers/inference-thread.js";
import { cosine } from "../../helpers/providers.js";
import { startAimock } from "../../helpers/aimock.js";

interface Subject {
  create: () => Promise<Provider>;
  /** Resolves when the call that is made next by the provider created last has begun its work. */
  begun: () => Promise<void>;
  stop: () => Promise<void>;
}

/** `fetch` says on this channel that it has sent a request's headers. */
async function requestSent(): Promise<void> {
  const channel = "undici:client:sendHeaders";
  let sent: () => void = () => undefined;
  const done = new Promise<void>((resolve) => (sent = resolve));
  subscribe(channel, sent);
  await done;
  unsubscribe(channel, sent);
}

/** What every provider promises, however it computes its vectors. */
const PROVIDERS: Record<string, () => Promise<Subject>> = {
  local: () => {
    let thread: Worker | undefined;
    return Promise.resolve({
      async create() {
        const created = await withThread(() => createProvider({ provider: "local" }));
        thread = created.thread;
        return created.provider;
      },
      begun: () => (thread ? untilComputing(thread) : Promise.reject(new Error("no thread"))),
      stop: () => Promise.resolve(),
    });
  },
  API: async () => {
    const server = await startApiServer({ latencyMs: 5 });
    return {
      create: () =>
        createProvider({ provider: "openai", apiKey: "k", baseUrl: server.url, requestInputs: 7 }),
      begun: requestSent,
      stop: () => server.stop(),
    };
  },
  "API (third-party server)": async () => {
    const server = await startAimock();
    return {
      create: () => createProvider({ provider: "openai", apiKey: "k", baseUrl: server.url }),
      begun: requestSent,
      stop: () => server.stop(),
    };
  },
};

const TEXTS = [
  "one",
  "two words",
  "three words here",
  "long ".repeat(9_000),
  "漢字",
  "👩‍👩‍👧‍👦",
  "\ud800 half",
  "  spaces  ",
];

describe.each(Object.entries(PROVIDERS))("the %s provider", (_, open) => {
  let create: Subject["create"];
  let begun: Subject["begun"];
  let stop: Subject["stop"];
  let provider: Provider;
  beforeAll(async () => {
    ({ create, begun, stop } = await open());
    provider = await create();
  });
  afterAll(async () => {
    await provider.close();
    await stop();
  });

  it("makes one finite vector of length 1 per text, in the order of the texts", async () => {
    const vectors = await provider.embed(TEXTS);
    expect(vectors).toHaveLength(TEXTS.length);
    for (const vector of vectors) {
      expect(vector).toBeInstanceOf(Float32Array);
      expect(vector).toHaveLength(provider.dimensions);
      expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    }
    const reversed = (await provider.embed([...TEXTS].reverse())).reverse();
    vectors.forEach((vector, i) => expect(cosine(vector, reversed[i] ?? [])).toBeGreaterThan(0.9999));
    expect(cosine(vectors[0] ?? [], vectors[1] ?? [])).toBeLessThan(0.999);
  });

  it("makes the same vector of a text alone and in a batch", async () => {
    const together = await provider.embed(TEXTS);
    for (const [i, text] of TEXTS.entries()) {
      const [alone] = await provider.embed([text]);
      expect(cosine(alone ?? [], together[i] ?? [])).toBeGreaterThan(0.9999);
    }
  });

  it("makes no vectors of no texts", async () => {
    expect(await provider.embed([])).toEqual([]);
    expect(await provider.countTokens([])).toEqual([]);
  });

  it("makes exactly the dimensions that it declares", async () => {
    expect(provider.supportsDimensions(provider.dimensions)).toBe(true);
    for (const wrong of [0, -1, 1.5, provider.dimensions + 1]) {
      expect(provider.supportsDimensions(wrong)).toBe(false);
    }
    const [vector] = await provider.embed(["a"], { dimensions: provider.dimensions });
    expect(vector).toHaveLength(provider.dimensions);
  });

  it("counts tokens, up to the model's limit", async () => {
    const [short = 0, long = 0, longer = 0] = await provider.countTokens([
      "word",
      "word ".repeat(20),
      "word ".repeat(50_000),
    ]);
    expect(short).toBeGreaterThan(0);
    expect(long).toBeGreaterThan(short);
    expect(longer).toBeLessThan(10_000);
  });

  it("declares its model and limits", () => {
    expect(provider.model).toMatch(/^[\w.-]+$/);
    expect(provider.concurrency).toBeGreaterThanOrEqual(1);
    expect(Number.isInteger(provider.concurrency)).toBe(true);
    expect(provider.maxBatchRows).toBeGreaterThanOrEqual(provider.minBatchRows ?? 1);
  });

  it("answers several calls at once", async () => {
    const calls = await Promise.all(TEXTS.map((text) => provider.embed([text])));
    const together = await provider.embed(TEXTS);
    calls.forEach(([vector], i) => expect(cosine(vector ?? [], together[i] ?? [])).toBeGreaterThan(0.9999));
  });

  it("rejects with the reason of an abort, and works afterwards", async () => {
    const reason = new Error("enough");
    await expect(provider.embed(["a"], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const working = begun();
    const call = provider.embed(
      Array.from({ length: 200 }, (_, i) => `text ${i} `.repeat(50)),
      { signal: controller.signal },
    );
    await working;
    controller.abort(reason);
    await expect(call).rejects.toBe(reason);
    await expect(provider.embed(["a"])).resolves.toHaveLength(1);
  });

  it("refuses calls in flight and later calls once closed, and can be closed twice", async () => {
    const closing = await create();
    const working = begun();
    const call = closing.embed(Array.from({ length: 200 }, (_, i) => `text ${i} `.repeat(50)));
    const refused = expect(call).rejects.toMatchObject({ kind: "provider", code: "provider_closed" });
    await working;
    void closing.close();
    await refused;
    await Promise.all([closing.close(), closing.close()]);
    await expect(closing.embed(["a"])).rejects.toMatchObject({ kind: "provider", code: "provider_closed" });
  });
});
