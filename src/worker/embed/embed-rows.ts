import type { Pipeline } from "../../database/pipeline.js";
import type { Provider, UsageMeter } from "../../providers/provider.js";
import type { ClaimedRow, EmbeddedRow, RefusedRow } from "../rows.js";
import { embedTexts } from "./isolate-refused.js";
import type { Reuse } from "./reuse.js";
import { cutColumn, isBlank, renderTemplate } from "./template.js";
import type { Template } from "./template.js";

export interface EmbedContext {
  pipeline: Pipeline;
  template: Template;
  provider: Provider;
  meter: UsageMeter;
  reuse: Reuse;
  /** Characters embedded of each content column; a claim reads one more, which tells whether the text was cut. */
  maxChars: number;
  /** Aborts computing at the shutdown's deadline. */
  signal: AbortSignal;
}

/** Rows in neither list were not attempted. */
export interface EmbedResult {
  embedded: EmbeddedRow[];
  refused: RefusedRow[];
  /** Texts the model embedded. */
  computed: number;
  /** Caches what was computed. Never rejects. */
  cache: () => Promise<void>;
}

/**
 * Embeds the texts of claimed rows.
 * @param maxComputed texts to embed at most; rows beyond are left out
 * @throws every error that is not about one row
 */
export async function embedRows(
  { pipeline, template, provider, meter, reuse, maxChars, signal }: EmbedContext,
  rows: readonly ClaimedRow[],
  maxComputed: number,
): Promise<EmbedResult> {
  const cutBefore = new Set<string>();
  const rendered = rows.map((row) => {
    const columns = row.content.map((value) => cutColumn(value, maxChars));
    const text = renderTemplate(template, columns);
    if (columns.some((column, i) => column !== row.content[i])) cutBefore.add(text);
    return { row, text };
  });
  const usable = rendered.filter(({ text }) => !isBlank(text));
  const { results, computed, cache } = await reuse.embed(
    pipeline,
    provider.model,
    usable.map(({ text }) => text),
    {
      maxComputed,
      reading: provider.reading,
      compute: (missing) => {
        signal.throwIfAborted();
        return embedTexts(provider, missing, { signal, dimensions: pipeline.dimensions, meter, cutBefore });
      },
    },
  );
  const embedded: EmbeddedRow[] = [];
  const refused: RefusedRow[] = rendered
    .filter(({ text }) => isBlank(text))
    .map(({ row }) => ({ row, code: "blank", message: "the part of the text that is read is blank" }));
  usable.forEach(({ row }, i) => {
    const result = results[i];
    if (result === undefined) return;
    if ("error" in result) refused.push({ row, code: result.error.code, message: result.error.message });
    else {
      // Without the text: a held row may wait for a long time.
      const { keyText, key, hash, large = false } = row;
      embedded.push({ keyText, key, hash, large, embedding: result.embedding });
    }
  });
  return { embedded, refused, computed, cache };
}
