import type { Pool } from "pg";
import { callSchema } from "../database/call-schema.js";
import { splitAdvice } from "../database/advice.js";
import { loadPipelines } from "../database/load-pipelines.sql.js";
import type { BrokenPipeline } from "../database/load-pipelines.sql.js";
import type { Pipeline } from "../database/pipeline.js";
import { configurationError } from "../errors.js";
import type { EmbeddError } from "../errors.js";
import { shellWord } from "../shell-word.js";
import { listWatched, pipelinesNamed } from "./watched.sql.js";

export interface PipelineName {
  /** As SQL names it. Required if several tables are watched. */
  table?: string | undefined;
  /** The embedding column. Required if the table has several. */
  embedding?: string | undefined;
}

/**
 * Finds the one pipeline that the options mean.
 * @throws EmbeddError that lists the candidates; with code `no_such_table` or `not_watched` if there is none
 */
export async function pickPipeline(
  pool: Pool,
  query: string,
  { table, embedding }: PipelineName,
): Promise<Pipeline> {
  const { pipelines, broken } = await loadPipelines(pool);
  const ids = table === undefined ? null : await watchedAs(pool, table);
  const ofTable = pipelines.filter((p) => ids === null || ids.includes(p.id));
  const matching = ofTable.filter(
    (p) =>
      // The new columns of a running switch must be named.
      (p.shadowOf === null || p.embedding === embedding) &&
      (embedding === undefined || p.embedding === embedding),
  );
  // embedd.chunks always exists, so it is only meant if it is named or the only one.
  const candidates =
    matching.length > 1 && table === undefined
      ? matching.filter((p) => p.relation !== "embedd.chunks")
      : matching;
  const [first] = candidates;
  if (first === undefined) {
    const unfit = table === undefined ? undefined : broken.find(({ id }) => ids?.includes(id));
    throw unfit === undefined ? noSuchColumn(ofTable, { table, embedding }) : unsearchable(unfit);
  }
  if (candidates.length === 1) return first;
  throw configurationError(
    "which_table",
    `several watched columns match: ${candidates.map((p) => `${p.relation}.${p.embedding}`).join(", ")}`,
    `embedd search ${shellWord(query)} --table ${shellWord(first.relation)} --embedding ${shellWord(first.embedding)}`,
  );
}

function unsearchable({ relation, reason }: BrokenPipeline): EmbeddError {
  const [what, cure] = splitAdvice(reason);
  return configurationError(
    "not_watched",
    `${relation} cannot be searched: ${what}`,
    cure || "embedd status",
  );
}

function noSuchColumn(pipelines: readonly Pipeline[], { table, embedding }: PipelineName): EmbeddError {
  if (embedding === undefined || pipelines.length === 0) {
    return table === undefined
      ? nothingWatched()
      : configurationError("not_watched", `${table} cannot be searched as it is`, "embedd status");
  }
  const columns = pipelines.map((p) => `${p.relation}.${p.embedding}`).join(", ");
  const of = table === undefined ? "" : ` of ${table}`;
  return configurationError(
    "not_watched",
    `column ${embedding}${of} is not watched; these are: ${columns}`,
    "embedd status",
  );
}

/**
 * The pipelines of the tables that a user may mean by `name`, which is `table` or `schema.table`. Also finds a table
 * outside the search path, so it is for commands that only read.
 * @throws EmbeddError with code `no_such_table` or `not_watched`
 */
export async function watchedAs(pool: Pool, name: string): Promise<number[]> {
  const watched = await listWatched(pool);
  const named = watched.filter(({ relation }) => relation === name || relation.endsWith(`.${name}`));
  return named.length > 0 ? named.map(({ id }) => id) : callSchema(() => pipelinesNamed(pool, name));
}

export function nothingWatched(): EmbeddError {
  return configurationError("not_watched", "no table is watched", "embedd watch --help");
}
