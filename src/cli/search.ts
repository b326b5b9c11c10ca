import type { Command } from "commander";
import type { Pool } from "pg";
import { configurationError } from "../errors.js";
import { createProvider, embedQuery } from "../providers/create-provider.js";
import type { Provider } from "../providers/provider.js";
import { loadPipelines } from "../database/load-pipelines.sql.js";
import type { Pipeline } from "../database/pipeline.js";
import { searchRows } from "../admin/search.sql.js";
import { shellWord } from "../admin/shell-word.js";
import type { SearchResult } from "../admin/search.sql.js";
import { wholeNumber } from "./arguments.js";
import { withContext } from "./context.js";
import { EXIT } from "./exit.js";
import { excerpt, matchesTable, notWatched, printResult } from "./text.js";

interface SearchFlags {
  table?: string;
  embedding?: string;
  limit: number;
  json?: boolean;
}

export function addSearch(program: Command): void {
  program
    .command("search <query>")
    .description("find the rows nearest in meaning, by cosine distance")
    .option("--table <name>", "the watched table (required if several are watched)")
    .option("--embedding <column>", "the embedding column (required if the table has several)")
    .option("--limit <n>", "show at most this many rows", wholeNumber, 5)
    .option("--json", "print JSON")
    .addHelpText("after", '\nExample:\n  embedd search "how do I reset my password" --table docs')
    .action(async (query: string, flags: SearchFlags, command: Command) => {
      await withContext(command, async ({ pool, config, log }) => {
        await pickPipeline(pool, query, flags);
        const provider = await createProvider({ ...config, log });
        try {
          const { pipeline, results } = await search(pool, provider, query, flags);
          printResult(results, flags.json, formatResults);
          if (results.length === 0) {
            const current = pipeline.model ?? pipeline.servedModel ?? provider.model;
            process.stderr.write(
              `no row of ${pipeline.relation} has a vector from ${provider.model}` +
                (current === provider.model
                  ? "\n"
                  : `; its current model is ${current}: set EMBEDD_PROVIDER for that model\n`),
            );
            process.exitCode = EXIT.no;
          }
        } finally {
          await provider.close();
        }
      });
    });
}

/**
 * A switch to another model may happen after the pipeline was loaded. Then the search finds nothing, or the column is
 * gone; so it loads the pipeline again and searches once more.
 */
async function search(
  pool: Pool,
  provider: Provider,
  query: string,
  flags: SearchFlags,
): Promise<{ pipeline: Pipeline; results: SearchResult[] }> {
  const pipeline = await pickPipeline(pool, query, flags);
  const attempt = async (p: Pipeline): Promise<SearchResult[]> => {
    if (!provider.supportsDimensions(p.dimensions)) return [];
    const vector = await embedQuery(provider, query, { dimensions: p.dimensions });
    return searchRows(pool, p, provider.model, vector, { limit: flags.limit, maxChars: 400 });
  };
  const changed = async (): Promise<Pipeline | null> => {
    const now = await pickPipeline(pool, query, flags);
    return now.id === pipeline.id && now.embedding === pipeline.embedding ? null : now;
  };
  try {
    const results = await attempt(pipeline);
    if (results.length > 0) return { pipeline, results };
  } catch (error) {
    if ((await changed()) === null) throw error;
  }
  const now = await changed();
  return { pipeline: now ?? pipeline, results: now === null ? [] : await attempt(now) };
}

/** Finds the one pipeline that the flags mean. @throws EmbeddError that lists the candidates */
async function pickPipeline(pool: Pool, query: string, { table, embedding }: SearchFlags): Promise<Pipeline> {
  const { pipelines } = await loadPipelines(pool);
  const matching = pipelines.filter(
    (p) =>
      // The new columns of a running switch must be named.
      (p.shadowOf === null || p.embedding === embedding) &&
      matchesTable(p.relation, table) &&
      (embedding === undefined || p.embedding === embedding),
  );
  // embedd.chunks always exists, so it is only meant if it is named or the only one.
  const candidates =
    matching.length > 1 && table === undefined
      ? matching.filter((p) => p.relation !== "embedd.chunks")
      : matching;
  const [first] = candidates;
  if (first === undefined) throw notWatched(table ?? embedding);
  if (candidates.length === 1) return first;
  throw configurationError(
    "which_table",
    `several watched columns match: ${candidates.map((p) => `${p.relation}.${p.embedding}`).join(", ")}`,
    `embedd search ${shellWord(query)} --table ${shellWord(first.relation)} --embedding ${shellWord(first.embedding)}`,
  );
}

function formatResults(results: readonly SearchResult[]): string {
  return results
    .map(({ key, distance, content }) => {
      const text = Object.values(content)
        .filter((value) => value !== null)
        .join(" ");
      return `${distance.toFixed(4)}  ${key}  ${excerpt(text, 100)}\n`;
    })
    .join("");
}
