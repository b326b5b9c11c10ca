import { inspect } from "node:util";
import { describe, expect, it } from "vitest";
import { embedTexts } from "#embedd/worker/embed/isolate-refused.js";
import { apiError } from "../../../helpers/api-server.js";
import { cosine, hashVector } from "../../../helpers/providers.js";
import { failure, numbered, start } from "./start.js";

describe("an input that is refused", () => {
  const poisonous = (poison: Set<string>, error: Parameters<typeof apiError>[1] = {}) => ({
    script: ({ texts }: { texts: string[] }) =>
      texts.some((text) => poison.has(text)) ? apiError(400, error) : undefined,
  });

  it.each([1, 2, 5])("%i of 512 are found by halving, in few requests", async (k) => {
    const texts = numbered(512);
    const poison = new Set(Array.from({ length: k }, (_, i) => `text ${(i * 97 + 13) % 512}`));
    const { provider, server } = await start(poisonous(poison));
    const results = await embedTexts(provider, texts, { dimensions: 384 });
    results.forEach((result, i) => {
      expect("error" in result, `text ${i}`).toBe(poison.has(`text ${i}`));
      if ("embedding" in result)
        expect(cosine(result.embedding, hashVector(`text ${i}`))).toBeGreaterThan(0.9999);
      else expect(result.error).toMatchObject({ kind: "row", code: "refused_input" });
    });
    expect(server.requests.length).toBeLessThanOrEqual(2 * k * Math.log2(512) + 2);
  });

  it("adds no cost to the other requests of its call", async () => {
    const texts = numbered(512);
    const { provider, server } = await start(poisonous(new Set(["text 100"])), { requestInputs: 32 });
    const results = await embedTexts(provider, texts);
    expect(results.filter((result) => "error" in result)).toHaveLength(1);
    const good = server.requests.filter(({ texts: sent }) => !sent.includes("text 100"));
    const sent = good.flatMap((request) => request.texts).filter((text) => text !== "embedd");
    expect(new Set(sent).size, "nothing is paid for twice").toBe(sent.length);
    expect(server.requests.length).toBeLessThanOrEqual(16 + 2 * Math.log2(32) + 2 + 4);
  });

  it("is recognized by 413 and 422 too", async () => {
    for (const status of [413, 422]) {
      const { provider } = await start({
        script: ({ texts }) => (texts.includes("bad") ? apiError(status, { param: "input" }) : undefined),
      });
      await expect(provider.embed(["bad"])).rejects.toMatchObject({ kind: "row", code: "refused_input" });
      await expect(provider.embed(["good"])).resolves.toHaveLength(1);
    }
  });

  it("is never quoted", async () => {
    const secretText = "the patient's name is Ada Lovelace";
    const { provider } = await start({
      script: ({ texts }) =>
        texts.includes(secretText)
          ? apiError(400, { param: "input", message: `bad input: ${secretText}`, code: secretText })
          : undefined,
    });
    const error = await failure(provider.embed([secretText]));
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain("Lovelace");
  });
});
