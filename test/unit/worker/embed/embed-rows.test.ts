import { describe, expect, it } from "vitest";
import { EmbeddError } from "#embedd/errors.js";
import type { Pipeline } from "#embedd/database/pipeline.js";
import type { Provider, UsageMeter } from "#embedd/providers/provider.js";
import { embedRows } from "#embedd/worker/embed/embed-rows.js";
import type { EmbedContext } from "#embedd/worker/embed/embed-rows.js";
import { noReuse } from "#embedd/worker/embed/reuse.js";
import { defaultTemplate } from "#embedd/worker/embed/template.js";
import type { ClaimedRow } from "#embedd/worker/rows.js";
import { hashProvider, hashVector } from "../../../helpers/providers.js";

const meter: UsageMeter = { reserve: () => Promise.resolve({ settle: () => undefined }) };

function contextOf(provider: Provider, signal = new AbortController().signal): EmbedContext {
  const pipeline = { dimensions: 384 } as Pipeline;
  return { pipeline, provider, template: defaultTemplate(1), meter, reuse: noReuse, maxChars: 100, signal };
}

const row = (id: number, text: string | null): ClaimedRow => ({
  keyText: String(id),
  key: [String(id)],
  hash: Buffer.from([id]),
  content: [text],
});

describe("embedding claimed rows", () => {
  it("pairs each row with the vector of its text, and drops the text", async () => {
    const { embedded, refused, computed } = await embedRows(
      contextOf(hashProvider()),
      [row(1, "a"), row(2, "b")],
      10,
    );
    expect(embedded).toEqual([
      { keyText: "1", key: ["1"], hash: Buffer.from([1]), large: false, embedding: hashVector("a") },
      { keyText: "2", key: ["2"], hash: Buffer.from([2]), large: false, embedding: hashVector("b") },
    ]);
    expect(refused).toEqual([]);
    expect(computed).toBe(2);
  });

  it("says which texts were cut, and which rows are large", async () => {
    const inner = hashProvider();
    let cut: unknown;
    const provider: Provider = {
      ...inner,
      embed: (texts, options) => {
        cut = options?.cutBefore;
        return inner.embed(texts, options);
      },
    };
    const rows = [row(1, "a".repeat(101)), { ...row(2, "b".repeat(100)), large: true }];
    const { embedded } = await embedRows(contextOf(provider), rows, 10);
    expect(cut).toEqual(new Set(["a".repeat(100)]));
    expect(embedded.map(({ large }) => large)).toEqual([false, true]);
  });

  it("refuses blank texts without a call, and a text that the provider refuses alone", async () => {
    const inner = hashProvider();
    const picky: Provider = {
      ...inner,
      embed: (texts) =>
        texts.includes("bad")
          ? Promise.reject(new EmbeddError("refused", { kind: "row", code: "refused_input" }))
          : inner.embed(texts),
    };
    const rows = [row(1, " "), row(2, "bad"), row(3, null), row(4, "good")];
    const { embedded, refused } = await embedRows(contextOf(picky), rows, 10);
    expect(embedded.map(({ keyText }) => keyText)).toEqual(["4"]);
    expect(refused.map(({ row: { keyText }, code }) => [keyText, code])).toEqual([
      ["1", "blank"],
      ["3", "blank"],
      ["2", "refused_input"],
    ]);
    expect(inner.texts).toEqual(["good"]);
  });

  it("leaves out rows that the cache's limit left without a result", async () => {
    const provider = hashProvider();
    const context: EmbedContext = {
      ...contextOf(provider),
      reuse: {
        async embed(_pipeline, _model, texts, { compute, maxComputed }) {
          const results = await compute(texts.slice(0, maxComputed));
          return {
            results: texts.map((_, i) => results[i]),
            computed: maxComputed,
            cache: () => Promise.resolve(),
          };
        },
      },
    };
    const { embedded, refused, computed } = await embedRows(context, [row(1, "a"), row(2, "b")], 1);
    expect(embedded.map(({ keyText }) => keyText)).toEqual(["1"]);
    expect(refused).toEqual([]);
    expect(computed).toBe(1);
  });

  it("computes nothing once it is aborted", async () => {
    const abort = new AbortController();
    abort.abort(new Error("deadline"));
    const provider = hashProvider();
    await expect(embedRows(contextOf(provider, abort.signal), [row(1, "a")], 10)).rejects.toThrow("deadline");
    expect(provider.texts).toEqual([]);
  });
});
