import { describe, expect, it } from "vitest";
import { EmbeddError } from "#embedd/errors.js";
import type { Provider } from "#embedd/providers/provider.js";
import { requireUsable } from "#embedd/providers/unusable-vectors.js";
import { embedTexts } from "#embedd/worker/embed/isolate-refused.js";
import { hashProvider, hashVector } from "../../../helpers/providers.js";

/** Refuses any batch with one of these texts in it, as an API answers 400 for the whole request. */
function picky(poison: Set<string>) {
  let calls = 0;
  const provider: Provider = {
    ...hashProvider(),
    embed(texts) {
      calls++;
      if (texts.some((text) => poison.has(text))) {
        return Promise.reject(new EmbeddError("bad input", { kind: "row", code: "refused_input" }));
      }
      return Promise.resolve(texts.map((text) => hashVector(text)));
    },
  };
  return { provider, calls: () => calls };
}

describe("embedding a batch", () => {
  it.each([1, 2, 5])("finds %i poison rows among 512 and spares the others", async (k) => {
    const texts = Array.from({ length: 512 }, (_, i) => `text ${i}`);
    const poison = new Set(Array.from({ length: k }, (_, i) => `text ${(i * 97 + 13) % 512}`));
    const { provider, calls } = picky(poison);
    const results = await embedTexts(provider, texts);
    expect(results).toHaveLength(512);
    results.forEach((result, i) => {
      expect("error" in result).toBe(poison.has(`text ${i}`));
      if ("embedding" in result) expect(result.embedding).toEqual(hashVector(`text ${i}`));
    });
    expect(calls()).toBeLessThanOrEqual(2 * k * Math.log2(512) + 2);
  });

  it("passes on a fault that is not a row's", async () => {
    const fault = new EmbeddError("503", { kind: "provider", code: "unavailable" });
    const provider = { ...hashProvider(), embed: () => Promise.reject(fault) };
    await expect(embedTexts(provider, ["a", "b"])).rejects.toBe(fault);
  });

  it("refuses too few vectors and wrong dimensions", async () => {
    const few = { ...hashProvider(), embed: () => Promise.resolve([hashVector("a")]) };
    await expect(embedTexts(few, ["a", "b"])).rejects.toThrow("1 vectors for 2 texts");
    const short = { ...hashProvider(), embed: () => Promise.resolve([hashVector("a", 3)]) };
    await expect(embedTexts(short, ["a"])).rejects.toThrow("3 dimensions instead of 384");
  });

  it.each([
    ["NaN", NaN, /not finite/],
    ["zero", 0, /zeros/],
  ])("charges only the row whose vector is %s", async (_, value, message) => {
    const bad = new Float32Array(384).fill(value);
    const provider = {
      ...hashProvider(),
      embed: () => Promise.resolve([hashVector("a"), bad, hashVector("c")]),
    };
    const results = await embedTexts(provider, ["a", "b", "c"]);
    expect(results.map((r) => "embedding" in r)).toEqual([true, false, true]);
    expect(results[1]).toMatchObject({
      error: { kind: "row", message: expect.stringMatching(message) as string },
    });
  });

  it("charges no row if the model has no usable vector for any text", async () => {
    const broken = {
      ...hashProvider(),
      embed: (texts: readonly string[]) => Promise.resolve(texts.map(() => new Float32Array(384))),
    };
    await expect(embedTexts(broken, ["a", "b"])).rejects.toMatchObject({
      kind: "provider",
      code: "wrong_answer",
    });
  });

  it("takes the usable vectors of a call that failed for the others, and calls once", async () => {
    let calls = 0;
    const provider: Provider = {
      ...hashProvider(),
      embed: async (texts) => {
        calls++;
        await Promise.resolve();
        const vectors = texts.map((text) => (text === "b" ? new Float32Array(384) : hashVector(text)));
        return requireUsable("hash", vectors);
      },
    };
    const results = await embedTexts(provider, ["a", "b", "c"]);
    expect(results[0]).toEqual({ embedding: hashVector("a") });
    expect(results[1]).toMatchObject({ error: { kind: "row", code: "unusable_vector" } });
    expect(results[2]).toEqual({ embedding: hashVector("c") });
    expect(calls).toBe(1);
  });
});
