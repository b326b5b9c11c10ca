import type { Pool } from "pg";
import type { EmbedOptions, Provider, UsageMeter } from "../providers/provider.js";
import type { Pipeline, WorkKind } from "../database/pipeline.js";
import { sampleBacklog } from "./sample.sql.js";
import { cutColumn, isBlank, renderTemplate, templateOf } from "../worker/embed/template.js";

/** What a backlog will cost. */
export interface Estimate {
  /** Rows to embed. */
  rows: number;
  /** Rows whose tokens were counted; the rest is extrapolated from them. */
  sampledRows: number;
  tokens: number;
  /** Of the sampled rows, those whose text would be cut, at the model's limit or at EMBEDD_MAX_CHARS. */
  sampledCut: number;
  /** Half the width of the 95 % confidence interval of `tokens`. */
  tokensMargin: number;
  /** By the model's list price; null: the price is not known. */
  usd: number | null;
  /** At the speed of a trial with sampled rows; null: no trial was made. */
  seconds: number | null;
}

export interface EstimateOptions {
  kind: Exclude<WorkKind, "refresh">;
  rows: number;
  maxChars: number;
  /** How many rows to count the tokens of. */
  sampleRows: number;
  /** How many of those to embed, to measure the speed; 0: none. */
  trialRows: number;
  /** Records what the trial spends at an API. */
  meter: UsageMeter;
}

/** Estimates tokens, price and time of a backlog: counts the tokens of sampled rows and embeds some. Writes nothing. */
export async function estimateBacklog(
  pool: Pool,
  pipeline: Pipeline,
  provider: Provider,
  { kind, rows, maxChars, sampleRows, trialRows, meter }: EstimateOptions,
): Promise<Estimate> {
  const contents = await sampleBacklog(pool, pipeline, {
    kind,
    model: provider.model,
    limit: sampleRows,
    maxChars: maxChars + 1,
  });
  const template = templateOf(pipeline);
  const sampled = contents
    .map((content) => {
      const columns = content.map((value) => cutColumn(value, maxChars));
      const cut = columns.some((column, i) => column !== content[i]);
      return { text: renderTemplate(template, columns), cut };
    })
    .filter(({ text }) => !isBlank(text));
  const texts = sampled.map(({ text }) => text);
  const counts = await provider.countTokens(texts);
  const cutBefore = sampled.filter(({ cut }) => cut).length;
  const uncut = sampled.filter(({ cut }) => !cut).map(({ text }) => text);
  const sampledCut = cutBefore + ((await provider.countCut?.(uncut)) ?? 0);
  const { mean, margin } = meanWithMargin(counts);
  const tokens = mean * rows;
  const rate = await trial(provider, texts.slice(0, trialRows), { dimensions: pipeline.dimensions, meter });
  return {
    rows,
    sampledRows: texts.length,
    tokens: Math.round(tokens),
    sampledCut,
    tokensMargin: texts.length >= rows ? 0 : Math.ceil(margin * rows),
    usd: provider.usdPerMillionTokens === null ? null : (tokens * provider.usdPerMillionTokens) / 1_000_000,
    seconds: rate === null ? null : rows / rate,
  };
}

/**
 * Measures how many texts a worker embeds per second. For a provider that sends requests to a server, it times the
 * requests of one call and scales to the number that a worker sends in parallel. For a local model it makes as many
 * parallel calls as a worker does.
 * @returns null without texts
 */
async function trial(
  provider: Provider,
  texts: readonly string[],
  { dimensions, meter }: { dimensions: number; meter: UsageMeter },
): Promise<number | null> {
  const [first] = texts;
  if (first === undefined) return null;
  let requests = 0;
  const counting: UsageMeter = {
    async reserve(tokens) {
      const reservation = provider.runsHere === true ? undefined : await meter.reserve(tokens);
      return {
        settle(spent) {
          requests += spent.requests;
          reservation?.settle(spent);
        },
      };
    },
  };
  const options: EmbedOptions = { dimensions, meter: counting };
  // The first call takes longer: it opens a connection or warms up the model.
  await provider.embed([first], options);
  const viaServer = requests > 0;
  requests = 0;
  const size = viaServer ? texts.length : Math.ceil(texts.length / provider.concurrency);
  const started = performance.now();
  const calls: Promise<unknown>[] = [];
  for (let i = 0; i < texts.length; i += size) calls.push(provider.embed(texts.slice(i, i + size), options));
  await Promise.all(calls);
  const rate = texts.length / ((performance.now() - started) / 1_000);
  return viaServer ? rate * Math.max(1, provider.concurrency / Math.max(1, requests)) : rate;
}

function meanWithMargin(values: readonly number[]): { mean: number; margin: number } {
  const n = values.length;
  if (n === 0) return { mean: 0, margin: 0 };
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(n - 1, 1);
  return { mean, margin: 1.96 * Math.sqrt(variance / n) };
}
