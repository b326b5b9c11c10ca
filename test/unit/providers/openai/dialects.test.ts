import { describe, expect, it } from "vitest";
import { embedTexts } from "#embedd/worker/embed/isolate-refused.js";
import { BAD_TEXT, DIALECTS } from "../../../helpers/dialects.js";
import { cosine, hashVector } from "../../../helpers/providers.js";
import { failure, numbered, start } from "./start.js";

describe("a server that", () => {
  it.each(DIALECTS)(
    "$name",
    async ({ server: options, options: settings = {}, texts: count = 40, ...dialect }) => {
      const { provider, server } = await start(options, settings);
      const texts = numbered(count);
      if (dialect.outcome === "paused") {
        const error = await failure(embedTexts(provider, texts));
        expect(error.kind).not.toBe("row");
        expect(error.code).toBe(dialect.code);
      } else {
        const results = await embedTexts(provider, texts);
        results.forEach((result, i) => {
          if (dialect.outcome === "charged" && texts[i] === BAD_TEXT)
            expect(result).toMatchObject({ error: { kind: "row", code: dialect.code } });
          else if ("error" in result) expect.fail(`${texts[i] ?? ""}: ${result.error.message}`);
          else expect(cosine(result.embedding, hashVector(texts[i] ?? "", 1_536))).toBeGreaterThan(0.9999);
        });
      }
      expect(server.requests.length).toBeLessThanOrEqual(dialect.requests);
    },
  );
});
