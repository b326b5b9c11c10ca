import { describe, expect, it } from "vitest";
import { EmbeddError } from "#embedd/errors.js";
import type { Provider } from "#embedd/providers/provider.js";
import { embedBatch } from "#embedd/worker/embed/isolate-refused.js";
import { hashProvider, hashVector } from "../../../helpers/providers.js";

/** Refuses any batch with one of these texts in it, as an API answers 400 for the whole request. */
function picky(poison: Set<string>) {
  let calls = 0;
  const provider: Provider = {
    ...hashProvider(),
    embed(texts) {
      calls++;
      if (texts.some((text) => poison.has(text))) {
        return Promise.reject(new EmbeddError("bad input", { kind: "row", code: "bad_input" }));
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
    const results = await embedBatch(provider, texts);
    results.forEach((result, i) => {
      expect("error" in result).toBe(poison.has(`text ${i}`));
      if ("embedding" in result) expect(result.embedding).toEqual(hashVector(`text ${i}`));
    });
    expect(calls()).toBeLessThanOrEqual(2 * k * Math.log2(512) + 2);
  });

  it("passes on a fault that is not a row's", async () => {
    const fault = new EmbeddError("503", { kind: "provider", code: "unavailable" });
    const provider = { ...hashProvider(), embed: () => Promise.reject(fault) };
    await expect(embedBatch(provider, ["a", "b"])).rejects.toBe(fault);
  });

  it("refuses too few vectors and wrong dimensions", async () => {
    const few = { ...hashProvider(), embed: () => Promise.resolve([hashVector("a")]) };
    await expect(embedBatch(few, ["a", "b"])).rejects.toThrow("1 vectors for 2 texts");
    const short = { ...hashProvider(), embed: () => Promise.resolve([hashVector("a", 3)]) };
    await expect(embedBatch(short, ["a"])).rejects.toThrow("3 dimensions instead of 384");
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
    const results = await embedBatch(provider, ["a", "b", "c"]);
    expect(results.map((r) => "embedding" in r)).toEqual([true, false, true]);
    expect(results[1]).toMatchObject({
      error: { kind: "row", message: expect.stringMatching(message) as string },
    });
  });
});
