import type { Pool } from "pg";
import { loadPipelines } from "../database/load-pipelines.sql.js";
import type { Pipeline } from "../database/pipeline.js";
import { configurationError } from "../errors.js";
import type { EmbeddError } from "../errors.js";
import { shellWord } from "../shell-word.js";

export interface PipelineName {
  /** As SQL names it. Required if several tables are watched. */
  table?: string | undefined;
  /** The embedding column. Required if the table has several. */
  embedding?: string | undefined;
}

/** Finds the one pipeline that the options mean. @throws EmbeddError that lists the candidates */
export async function pickPipeline(
  pool: Pool,
  query: string,
  { table, embedding }: PipelineName,
): Promise<Pipeline> {
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

/** Whether a user means the quoted `schema.table` by `name`, which is `table` or `schema.table`; undefined: any table. */
export function matchesTable(relation: string, name: string | undefined): boolean {
  return name === undefined || relation === name || relation.endsWith(`.${name}`);
}

/** @param table undefined: no table is watched at all */
export function notWatched(table: string | undefined): EmbeddError {
  return table === undefined
    ? configurationError("not_watched", "no table is watched", "embedd watch --help")
    : configurationError(
        "not_watched",
        `${table} is not watched`,
        "embedd status  # lists the watched tables",
      );
}
