import type { Command } from "commander";
import type { Pool } from "pg";
import { configurationError } from "../errors.js";
import { createProvider, embedQuery } from "../providers/create-provider.js";
import type { Provider } from "../providers/provider.js";
import { loadPipelines } from "../database/load-pipelines.sql.js";
import type { Pipeline } from "../database/pipeline.js";
import { searchRows } from "../admin/search.sql.js";
import type { SearchResult } from "../admin/search.sql.js";
import { wholeNumber } from "./arguments.js";
import { withContext } from "./context.js";
import { EXIT } from "./exit.js";
import { excerpt, matchesTable } from "./text.js";

interface SearchFlags {
  table?: string;
  embedding?: string;
  limit: number;
  json?: boolean;
}

export function addSearch(program: Command): void {
  program
    .command("search <query>")
    .description("the rows nearest in meaning, by cosine distance")
    .option("--table <name>", "which watched table (needed when several are)")
    .option("--embedding <column>", "which embedding column, where a table has several")
    .option("--limit <n>", "how many rows", wholeNumber, 5)
    .option("--json", "for scripts")
    .addHelpText("after", '\nExample:\n  embedd search "how do I reset my password" --table docs')
    .action(async (query: string, flags: SearchFlags, command: Command) => {
      await withContext(
        command,
        async ({ pool, config, log }) => {
          await pickPipeline(pool, flags);
          const provider = await createProvider({ ...config, log });
          try {
            const { pipeline, results } = await search(pool, provider, query, flags);
            process.stdout.write(
              flags.json === true ? `${JSON.stringify(results, null, 2)}\n` : formatResults(results),
            );
            if (results.length === 0) {
              const present = pipeline.model ?? pipeline.servedModel ?? provider.model;
              process.stderr.write(
                `no row of ${pipeline.relation} has a vector of ${provider.model}` +
                  (present === provider.model
                    ? "\n"
                    : `; they are of ${present}: set EMBEDD_PROVIDER for it\n`),
              );
              process.exitCode = EXIT.no;
            }
          } finally {
            await provider.close();
          }
        },
        { quiet: true },
      );
    });
}

/**
 * A switch to another model may come between the look at the table and the search of it. Then nothing is
 * found, or a column not at all; the second time it is over.
 */
async function search(
  pool: Pool,
  provider: Provider,
  query: string,
  flags: SearchFlags,
): Promise<{ pipeline: Pipeline; results: SearchResult[] }> {
  const pipeline = await pickPipeline(pool, flags);
  const attempt = async (p: Pipeline): Promise<SearchResult[]> => {
    if (!provider.supportsDimensions(p.dimensions)) return [];
    const vector = await embedQuery(provider, query, { dimensions: p.dimensions });
    return searchRows(pool, p, provider.model, vector, { limit: flags.limit, maxChars: 400 });
  };
  const changed = async (): Promise<Pipeline | null> => {
    const present = await pickPipeline(pool, flags);
    return present.id === pipeline.id && present.embedding === pipeline.embedding ? null : present;
  };
  try {
    const results = await attempt(pipeline);
    if (results.length > 0) return { pipeline, results };
  } catch (error) {
    if ((await changed()) === null) throw error;
  }
  const present = await changed();
  return { pipeline: present ?? pipeline, results: present === null ? [] : await attempt(present) };
}

/** The one pipeline that is meant; where that is not clear, an error that lists them. */
async function pickPipeline(pool: Pool, { table, embedding }: SearchFlags): Promise<Pipeline> {
  const { pipelines } = await loadPipelines(pool);
  const fits = pipelines.filter(
    (p) =>
      // What a switch to another model is still filling is meant only when it is named.
      (p.shadowOf === null || p.embedding === embedding) &&
      matchesTable(p.relation, table) &&
      (embedding === undefined || p.embedding === embedding),
  );
  // The ready-made table is there always, so it is meant only when it is named or alone.
  const candidates =
    fits.length > 1 && table === undefined ? fits.filter((p) => p.relation !== "embedd.chunks") : fits;
  const [only] = candidates;
  if (only !== undefined && candidates.length === 1) return only;
  const names = (candidates.length > 1 ? candidates : pipelines)
    .map((p) => `${p.relation}.${p.embedding}`)
    .join(", ");
  throw configurationError(
    candidates.length > 1 ? "which_table" : "not_watched",
    candidates.length > 1
      ? `several watched columns fit: ${names}`
      : `${table ?? "that"} is not watched; watched: ${names}`,
    'embedd search "…" --table schema.table --embedding column',
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
