import type { ClientBase, Pool } from "pg";
import pgvector from "pgvector";
import type { Pipeline } from "../database/pipeline.js";
import { mayBeRows } from "../database/isolate.js";
import { bindKeys, columnsAreCurrent, inputRows, keyArray, keyText, keysMatch } from "../database/key-sql.js";
import { parameters } from "../database/parameters.js";
import { checkSameTable } from "../database/same-table.sql.js";
import { inTransaction } from "../database/transaction.js";

export interface SearchResult {
  /** The row's primary key as text. */
  key: string;
  /** Cosine distance: 0 for the same direction, 2 for the opposite. */
  distance: number;
  /**
   * The text of each content column, in the order in which they were watched, truncated at `maxChars`. All are null if
   * PostgreSQL cannot read the row.
   */
  content: Record<string, string | null>;
  /** The content columns whose text is truncated. */
  truncated: string[];
}

interface Limits {
  limit: number;
  maxChars: number;
}

interface NearestOptions extends Limits {
  exact?: boolean;
  readTexts: boolean;
}

/**
 * pgvector's index finds the nearest rows of all models, of which the filter may leave too few. Since 0.8 it can keep
 * scanning until there are enough. Older versions do not know the setting and would fail.
 */
const keepScanning = `
select set_config('hnsw.iterative_scan', 'strict_order', true)
from pg_extension
where extname = 'vector'
  and string_to_array(substring(extversion from '^\\d+\\.\\d+'), '.')::integer[] >= '{0,8}'`;

/**
 * Finds the nearest rows by cosine distance. Searches only vectors from `model`, because vectors of different models
 * cannot be compared. If the vector index finds fewer than `limit` rows, it searches again without the index.
 * @returns at most `limit` rows, nearest first; none if a switch has given the columns to another model since the
 *   pipeline was loaded
 */
export async function searchRows(
  pool: Pool,
  pipeline: Pipeline,
  model: string,
  query: Float32Array,
  limits: Limits,
): Promise<SearchResult[]> {
  const search = (readTexts: boolean): Promise<FoundRow[]> =>
    inTransaction(pool, async (client) => {
      await checkSameTable(client, pipeline);
      await client.query(keepScanning);
      const rows = await nearest(client, pipeline, model, query, { ...limits, readTexts });
      if (rows.length >= limits.limit) return rows;
      return nearest(client, pipeline, model, query, { ...limits, readTexts, exact: true });
    });
  let found: FoundRow[];
  try {
    found = await search(true);
  } catch (error) {
    if (!mayBeRows(error)) throw error;
    found = [];
    for (const row of await search(false)) {
      found.push({ ...row, content: await readContent(pool, pipeline, row, limits.maxChars) });
    }
  }
  return found.map((row) => shorten(row, limits.maxChars));
}

/** Its texts have one character more than `maxChars` if they are longer. */
interface FoundRow extends Omit<SearchResult, "truncated"> {
  keys: string[];
}

function shorten({ key, distance, content }: FoundRow, maxChars: number): SearchResult {
  const truncated: string[] = [];
  const shortened = Object.entries(content).map(([name, text]) => {
    const characters = Array.from(text ?? "");
    if (characters.length <= maxChars) return [name, text];
    truncated.push(name);
    return [name, characters.slice(0, maxChars).join("")];
  });
  return {
    key,
    distance,
    content: Object.fromEntries(shortened) as SearchResult["content"],
    truncated,
  };
}

async function nearest(
  client: ClientBase,
  pipeline: Pipeline,
  model: string,
  query: Float32Array,
  { limit, maxChars, exact = false, readTexts }: NearestOptions,
): Promise<FoundRow[]> {
  const distance = `t.${pipeline.embedding} operator(${pipeline.vectorSchema}.<=>) $1::${pipeline.embeddingType}`;
  const order = exact ? `(${distance}) + 0 /* no index has this expression */` : distance;
  const { rows } = await client.query<FoundRow>(
    `
select ${keyText(pipeline)} as key,
  ${keyArray(pipeline, "t")} as keys,
  ${distance} as distance,
  ${contentObject(pipeline, "$5", readTexts ? "$4" : null)} as content
from ${pipeline.relation} t
where t.${pipeline.embedding} is not null
  and t.${pipeline.modelColumn} = $2
  and $4::integer is not null
  and ${columnsAreCurrent(pipeline, "$6")}
order by ${order}
limit $3`,
    [pgvector.toSql(Array.from(query)), model, limit, maxChars + 1, pipeline.contentNames, pipeline.id],
  );
  return rows;
}

/** @param names the `$n` of the unquoted column names @param maxChars a `$n`; null: no text is read */
function contentObject(pipeline: Pipeline, names: string, maxChars: string | null): string {
  const texts = pipeline.content.map((column, i) => {
    const text = maxChars === null ? "null::text" : `left(t.${column}::text, ${maxChars})`;
    return `(${names}::text[])[${i + 1}], ${text}`;
  });
  return `json_build_object(${texts.join(", ")})`;
}

/** The texts of one row; nulls if PostgreSQL cannot read them, or if the row is gone. */
async function readContent(
  pool: Pool,
  pipeline: Pipeline,
  { keys, content }: FoundRow,
  maxChars: number,
): Promise<SearchResult["content"]> {
  const { values, bind } = parameters();
  const p = {
    keys: bindKeys(pipeline, [{ key: keys }], bind),
    names: bind(pipeline.contentNames),
    maxChars: bind(maxChars + 1),
  };
  const text = `
select ${contentObject(pipeline, p.names, p.maxChars)} as content
from (${inputRows(pipeline, p.keys, {})}) as u
join ${pipeline.relation} t on ${keysMatch(pipeline, "t", "u")}`;
  try {
    const { rows } = await pool.query<Pick<SearchResult, "content">>(text, values);
    return rows[0]?.content ?? content;
  } catch (error) {
    if (!mayBeRows(error)) throw error;
    return content;
  }
}
