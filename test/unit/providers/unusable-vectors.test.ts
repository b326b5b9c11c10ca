import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { embedQuery } from "#embedd/providers/create-provider.js";
import { UnusableVectors, requireUsable, unusableVector } from "#embedd/providers/unusable-vectors.js";
import { hashProvider } from "../../helpers/providers.js";
import { start } from "./openai/start.js";
import { embedTexts } from "#embedd/worker/embed/isolate-refused.js";

describe("an unusable vector", () => {
  it.each([
    ["NaN", [1, NaN], "m returned a vector that is not finite"],
    ["infinite", [1, -Infinity], "m returned a vector that is not finite"],
    ["zero", [0, -0], "m returned a vector of zeros"],
    ["empty", [], "m returned a vector of zeros"],
  ])("is one that is %s", (_, components, message) => {
    const error = unusableVector("m", Float32Array.from(components));
    expect(error).toMatchObject({ kind: "row", code: "unusable_vector", message });
  });

  it("is not one with the smallest or largest components", () => {
    for (const component of [1e-45, 3.4e38])
      expect(unusableVector("m", Float32Array.of(component, 0))).toBeNull();
  });

  it("fails its call with an error that carries all vectors, and prints none", () => {
    const vectors = [Float32Array.of(0.125), Float32Array.of(0)];
    expect(requireUsable("m", vectors.slice(0, 1))).toHaveLength(1);
    let thrown: unknown;
    try {
      requireUsable("m", vectors);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(UnusableVectors);
    expect((thrown as UnusableVectors).vectors).toBe(vectors);
    expect(inspect(thrown, { depth: 10, showHidden: true })).not.toContain("0.125");
  });

  it("is never the result of a query", async () => {
    const provider = { ...hashProvider(), embed: () => Promise.resolve([new Float32Array(384)]) };
    await expect(embedQuery(provider, "question")).rejects.toMatchObject({ code: "unusable_vector" });
  });

  it("of a server costs one request, and the other texts keep their vectors", async () => {
    const { provider, server } = await start({
      script: ({ texts }) => ({
        change: (items) =>
          items.map((item, i) =>
            texts[i] === "b" ? { ...item, embedding: Array<number>(1_536).fill(0) } : item,
          ),
      }),
    });
    const results = await embedTexts(provider, ["a", "b", "c"]);
    expect(results.map((result) => "embedding" in result)).toEqual([true, false, true]);
    expect(results[1]).toMatchObject({ error: { code: "unusable_vector" } });
    expect(server.requests).toHaveLength(1);
  });
});
