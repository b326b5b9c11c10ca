import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { EmbeddError } from "#embedd/errors.js";
import { embedTexts } from "#embedd/worker/embed/isolate-refused.js";
import { BAD_TEXT, DIALECTS } from "../../../helpers/dialects.js";
import { cosine, hashVector } from "../../../helpers/providers.js";
import { failure, numbered, start } from "./start.js";

describe("a server that", () => {
  it.each(DIALECTS)(
    "$name",
    async ({ server: options, options: settings = {}, texts: count = 40, ...dialect }) => {
      const { provider, server } = await start(options, settings);
      const { long } = dialect;
      const bad = long === undefined ? BAD_TEXT : BAD_TEXT.padEnd(long, " and more");
      const texts = numbered(count).map((text) => (text === BAD_TEXT ? bad : text));
      const cut = (text: string): string => (text === bad && long !== undefined ? text.slice(0, 62) : text);
      if (dialect.outcome === "paused") {
        const error = await failure(embedTexts(provider, texts));
        expect(error.kind).not.toBe("row");
        expect(error.code).toBe(dialect.code);
      } else {
        const results = await retried(dialect.calls ?? 1, () => embedTexts(provider, texts));
        results.forEach((result, i) => {
          if (dialect.outcome === "charged" && texts[i] === bad)
            expect(result).toMatchObject({ error: { kind: "row", code: dialect.code } });
          else if ("error" in result) expect.fail(`${texts[i] ?? ""}: ${result.error.message}`);
          else
            expect(cosine(result.embedding, hashVector(cut(texts[i] ?? ""), 1_536))).toBeGreaterThan(0.9999);
        });
      }
      expect(server.requests.length).toBeLessThanOrEqual(dialect.requests);
    },
  );
});

/** Calls again after a fault of the provider, as a worker does. */
async function retried<T>(calls: number, call: () => Promise<T>): Promise<T> {
  for (let left = calls; ; left--) {
    try {
      return await call();
    } catch (error) {
      if (left <= 1 || !(error instanceof EmbeddError) || error.kind !== "provider") throw error;
      await sleep(Math.max(error.retryAfterMs ?? 0, 100));
    }
  }
}
