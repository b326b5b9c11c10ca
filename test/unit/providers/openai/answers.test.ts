import { describe, expect, it } from "vitest";
import { cosine, hashVector } from "../../../helpers/providers.js";
import { numbered, start } from "./start.js";

const TEXTS = numbered(5);
const expectRight = (vectors: Float32Array[], dimensions = 1_536): void => {
  expect(vectors).toHaveLength(TEXTS.length);
  TEXTS.forEach((text, i) => {
    expect(Math.hypot(...(vectors[i] ?? []))).toBeCloseTo(1, 6);
    expect(cosine(vectors[i] ?? [], hashVector(text, dimensions))).toBeGreaterThan(0.999999);
  });
};

describe("an answer", () => {
  it("in base64 becomes vectors of length 1", async () => {
    const { provider, server } = await start();
    expectRight(await provider.embed(TEXTS));
    expect(server.requests).toMatchObject([
      { model: "text-embedding-3-small", encoding: "base64", dimensions: undefined, url: "/v1/embeddings" },
    ]);
  });

  it("in numbers becomes vectors where base64 is ignored", async () => {
    const { provider } = await start({ base64: "ignored" });
    expectRight(await provider.embed(TEXTS));
  });

  it("is requested in numbers once base64 was refused", async () => {
    const { provider, server } = await start({ base64: "refused" });
    expectRight(await provider.embed(TEXTS));
    expectRight(await provider.embed(TEXTS));
    // The refused request, a harmless text in base64, the same in numbers, and the request again.
    expect(server.requests.map((r) => r.encoding)).toEqual(["base64", "base64", "float", "float", "float"]);
  });

  it("from a server that names encoding_format in its refusal takes one more request", async () => {
    const { provider, server } = await start({
      script: ({ encoding }) =>
        encoding === "base64"
          ? { status: 400, body: { error: { message: "no", param: "encoding_format" } } }
          : undefined,
    });
    expectRight(await provider.embed(TEXTS));
    expect(server.requests.map((r) => r.encoding)).toEqual(["base64", "float"]);
  });

  it("with shuffled indexes is put in order", async () => {
    const { provider } = await start({ script: () => ({ change: (items) => items.reverse() }) });
    expectRight(await provider.embed(TEXTS));
  });

  it.each<[string, (index: number) => number | null | undefined]>([
    ["every index", () => undefined],
    ["index 0", (index) => (index === 0 ? undefined : index)],
    ["index 0, which is null,", (index) => (index === 0 ? null : index)],
  ])("without %s is taken in the order of its items", async (_, index) => {
    const { provider, server } = await start({
      script: () => ({ change: (items) => items.map((item, i) => ({ ...item, index: index(i) })) }),
    });
    expectRight(await provider.embed(TEXTS));
    expect(server.requests).toHaveLength(1);
  });

  it.each([
    ["too few", (items: unknown[]) => items.slice(1)],
    ["too many", (items: unknown[]) => [...items, items[0]]],
    ["an index twice", (items: unknown[]) => items.map((item) => ({ ...(item as object), index: 0 }))],
    [
      "a missing index where the others are not in order",
      (items: unknown[]) =>
        items.reverse().map((item, i) => (i === 0 ? { ...(item as object), index: undefined } : item)),
    ],
    [
      "an index beyond the last",
      (items: unknown[]) => items.map((item) => ({ ...(item as object), index: 5 })),
    ],
    [
      "no vector at all",
      (items: unknown[]) => items.map((item) => ({ ...(item as object), embedding: null })),
    ],
    [
      "different lengths",
      ([first, ...rest]: unknown[]) => [{ ...(first as object), embedding: [1] }, ...rest],
    ],
    ["no list", () => "surprise"],
    ["half a float", ([first, ...rest]: unknown[]) => [{ ...(first as object), embedding: "YWI=" }, ...rest]],
    ["no embedding", ([first, ...rest]: unknown[]) => [{ ...(first as object), embedding: 7 }, ...rest]],
  ])("with %s is requested again", async (_, change) => {
    const { provider, server } = await start({
      script: ({ number }) => (number === 0 ? { change } : undefined),
    });
    expectRight(await provider.embed(TEXTS));
    expect(server.requests).toHaveLength(2);
  });

  it.each([
    ["no vector", null],
    ["an empty vector", []],
    ["null", [null, ...Array<number>(1_535).fill(1)]],
    ["zeros", Array<number>(1_536).fill(0)],
    ["NaN in base64", Buffer.from(new Float32Array(1_536).fill(NaN).buffer).toString("base64")],
  ])("with %s charges only that text", async (_, embedding) => {
    const { provider, server } = await start({
      script: ({ texts }) => ({
        change: (items) => items.map((item, i) => (texts[i] === "text 3" ? { ...item, embedding } : item)),
      }),
    });
    await expect(provider.embed(TEXTS)).rejects.toMatchObject({ kind: "row", code: "unusable_vector" });
    await expect(provider.embed(["text 0", "text 1", "text 2", "text 4"])).resolves.toHaveLength(4);
    expect(server.requests, "the others are kept from the first answer").toHaveLength(1);
    await expect(provider.embed(["text 3"])).rejects.toMatchObject({ kind: "row" });
  });
});

describe("dimensions", () => {
  it("are requested where the model supports it", async () => {
    const { provider, server } = await start();
    expect([1, 384, 1_536, 1_537, 0, 3.5].map((n) => provider.supportsDimensions(n))).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
    ]);
    expectRight(await provider.embed(TEXTS, { dimensions: 384 }), 384);
    await provider.embed(TEXTS, { dimensions: 1_536 });
    expect(server.requests.map((r) => r.dimensions)).toEqual([384, undefined]);
    await expect(provider.embed(TEXTS, { dimensions: 3_072 })).rejects.toMatchObject({
      kind: "configuration",
      message: expect.stringContaining("at most 1536") as string,
    });
  });

  it("of an unknown model are learned by one request, and no others are supported", async () => {
    const { provider, server } = await start({ dimensions: 77 }, { provider: "ollama", model: "custom" });
    expect(provider.dimensions).toBe(77);
    expect([77, 76].map((n) => provider.supportsDimensions(n))).toEqual([true, false]);
    await provider.embed(TEXTS);
    expect(server.requests.map((r) => [r.texts.length, r.dimensions])).toEqual([
      [1, undefined],
      [5, undefined],
    ]);
  });

  it("of known models need no request, with any tag", async () => {
    const { provider, server } = await start({}, { provider: "ollama", model: "nomic-embed-text:latest" });
    expect(provider).toMatchObject({ model: "nomic-embed-text:latest", dimensions: 768 });
    expect(server.requests).toHaveLength(0);
  });

  it("that are set are requested, also from an unknown model", async () => {
    const { provider, server } = await start(
      {},
      { provider: "tei", model: "some/matryoshka", dimensions: 256 },
    );
    expect([256, 128, 512].map((n) => provider.supportsDimensions(n))).toEqual([true, false, false]);
    await provider.embed(TEXTS);
    expect(server.requests).toMatchObject([{ dimensions: 256, model: "some/matryoshka" }]);
  });

  it("that come out wrong stop the provider, with a hint", async () => {
    const { provider, server } = await start({
      script: () => ({ change: (items) => items.map((item) => ({ ...item, embedding: [1, 2] })) }),
    });
    const wrong = { kind: "provider", code: "wrong_dimensions" };
    await expect(provider.embed(TEXTS, { dimensions: 384 })).rejects.toMatchObject({
      ...wrong,
      message: expect.stringMatching(/asked for 384.*returned 2.*vector\(2\).*EMBEDD_DIMENSIONS/) as string,
    });
    await expect(provider.embed(TEXTS)).rejects.toMatchObject(wrong);
    expect(server.requests).toHaveLength(1);
  });
});

describe("usage", () => {
  it("is what the server reports, and is reserved by a count before", async () => {
    const { provider } = await start({ tokens: () => 11 });
    const calls: unknown[] = [];
    const meter = {
      reserve(tokens: number) {
        calls.push(["reserve", tokens]);
        return Promise.resolve({ settle: (spent: object) => void calls.push(["settle", spent]) });
      },
    };
    await provider.embed(TEXTS, { meter });
    expect(calls).toEqual([
      ["reserve", 15],
      ["settle", { requests: 1, tokens: 55, texts: 5, cutTexts: 0 }],
    ]);
  });

  it("is zero for a refused request, and the count for a request without an answer", async () => {
    const { provider } = await start({
      script: ({ number }) => [{ status: 500 }, { reset: "middle" as const }][number],
    });
    const settled: unknown[] = [];
    await provider.embed(TEXTS, {
      meter: { reserve: () => Promise.resolve({ settle: (spent) => void settled.push(spent) }) },
    });
    expect(settled).toEqual([
      { requests: 1, tokens: 0 },
      { requests: 1, tokens: 15 },
      { requests: 1, tokens: 10, texts: 5, cutTexts: 0 },
    ]);
  });

  it("over the limit ends the call before its request", async () => {
    const { provider, server } = await start();
    const limit = new Error("enough for today");
    await expect(provider.embed(TEXTS, { meter: { reserve: () => Promise.reject(limit) } })).rejects.toBe(
      limit,
    );
    expect(server.requests).toHaveLength(0);
  });
});
