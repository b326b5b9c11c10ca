import type { Pool } from "pg";
import { isolateFailing } from "../../database/isolate.js";
import {
  bindKeys,
  contentHash,
  keyNames,
  keysMatch,
  needsVector,
  shapeIsCurrent,
  typedKeys,
} from "../../database/key-sql.js";
import { parameters } from "../../database/parameters.js";
import type { Statement } from "../../database/parameters.js";
import type { Pipeline, WorkKind } from "../../database/pipeline.js";
import { usersSearchPath } from "../../database/pool.js";
import { runStatement } from "../../database/transaction.js";
import { WHITE_SPACE } from "../rows.js";
import type { ClaimedRow, LeasedKey, RefusedRow } from "../rows.js";

export interface ReadOptions {
  kind: WorkKind;
  /** The current model. */
  model: string;
  /** Characters read of each content column. */
  maxChars: number;
}

/** Rows in no list no longer need a vector, are blank (stale rows) or are gone. */
export interface ReadResult {
  rows: ClaimedRow[];
  /** Pending rows that are nothing but white space: the index of pending rows does not read long texts. */
  blank: RefusedRow[];
  /** PostgreSQL could not read them. */
  refused: RefusedRow[];
}

/** Hashing this many bytes takes about 50 ms. */
const LARGE_BYTES = 10_000_000;

interface ReadRow {
  position: number;
  large: boolean;
  has_text: boolean;
  hash: Buffer;
  [content: `c${number}`]: string | null;
}

/**
 * Reads the texts of these keys, each with the hash that its write will be compared with. Blank texts of pending rows are
 * read too, so that they can be recorded, and those of a refresh, because their rows lose their vectors.
 */
export function readStatement(
  pipeline: Pipeline,
  keys: readonly { key: readonly string[] }[],
  { kind, model, maxChars }: ReadOptions,
): Statement {
  const { values, bind } = parameters();
  const arrays = bindKeys(pipeline, keys, bind);
  const p = { pipeline: bind(pipeline.id), maxChars: bind(maxChars), model: bind(model) };
  const content = pipeline.content.map((column, i) => `${start(column, p.maxChars)} as c${i + 1}`);
  const bytes = pipeline.contentBytes.map((size) => `coalesce(${size}, 0)::bigint`);
  // OFFSET 0 keeps the planner from looking at the texts of other rows, which it does where it scans a small table.
  // The text condition has names without a table: inside the inner SELECT they are the table's.
  const text = `
select u.position::integer as position, r.*
from (
  select ${typedKeys(pipeline)}, u.position
  from unnest(${arrays}) with ordinality as u (${keyNames(pipeline)}, position)
) as u
cross join lateral (
  select ${content.join(", ")}, ${contentHash(pipeline)} as hash,
    ${bytes.join(" + ")} > ${LARGE_BYTES} as large,
    ${kind === "pending" ? pipeline.hasText : "true"} as has_text
  from (
    select ${pipeline.content.map((column) => `t.${column}`).join(", ")}
    from ${pipeline.relation} t
    where ${keysMatch(pipeline, "t", "u")}
      and ${needsVector(pipeline, kind, p.model)}
    offset 0
  ) as t
  ${kind === "stale" ? `where ${pipeline.hasText}` : ""}
) as r
where ${p.model}::text is not null
  and (select ${usersSearchPath}) is not null
  and ${shapeIsCurrent(pipeline, p.pipeline)}
order by u.position`;
  return { text, values };
}

/**
 * The first characters of a column's text. In a SQL_ASCII database a character is a byte, so where the text was cut,
 * the last character is left out: it may be incomplete.
 */
function start(column: string, maxChars: string): string {
  const text = `left(t.${column}::text, ${maxChars})`;
  return `case when getdatabaseencoding() = 'SQL_ASCII' and octet_length(${text}) = ${maxChars}
      then regexp_replace(${text}, '[\\u00c0-\\u00ff][\\u0080-\\u00bf]*$', '') else ${text} end`;
}

/**
 * Reads leased rows. A row that PostgreSQL cannot read (a damaged value, a cast that raises, bytes that are no text)
 * is refused with its SQLSTATE; the others are read all the same.
 * @throws every error that is not about one row, among them that the keys no longer fit their columns
 */
export async function readRows(
  pool: Pool,
  pipeline: Pipeline,
  keys: readonly LeasedKey[],
  options: ReadOptions,
): Promise<ReadResult> {
  const { results, failed } = await isolateFailing(
    keys,
    (part) => readPart(pool, pipeline, part, options),
    () => checkKeys(pool, pipeline, keys),
  );
  return {
    rows: results.filter(({ hasText }) => hasText).map(({ row }) => row),
    blank: results
      .filter(({ hasText }) => !hasText)
      .map(({ row }) => ({ row, code: WHITE_SPACE, message: "the text is nothing but white space" })),
    refused: failed.map(({ item: { keyText, key, version }, code }) => ({
      row: { keyText, key, hash: version },
      code,
      message: "PostgreSQL could not read the text",
      unreadable: true,
    })),
  };
}

async function readPart(
  pool: Pool,
  pipeline: Pipeline,
  keys: readonly LeasedKey[],
  options: ReadOptions,
): Promise<{ row: ClaimedRow; hasText: boolean }[]> {
  const { text, values } = readStatement(pipeline, keys, options);
  const { rows } = await runStatement<ReadRow>(pool, text, values);
  return rows.flatMap((row) => {
    const leased = keys[row.position - 1];
    if (leased === undefined) return [];
    const content = pipeline.content.map((_, i) => row[`c${i + 1}`] ?? null);
    const { keyText, key } = leased;
    return [{ row: { keyText, key, content, hash: row.hash, large: row.large }, hasText: row.has_text }];
  });
}

/**
 * Casts keys to the types of their columns, and nothing else. If the key's type has changed since the pipeline was
 * loaded (`integer` to `bigint`, an enum's label), no row is to blame.
 * @throws the error of the cast
 */
export async function checkKeys(
  pool: Pool,
  pipeline: Pipeline,
  rows: readonly { key: readonly string[] }[],
): Promise<void> {
  const { values, bind } = parameters();
  const arrays = bindKeys(pipeline, rows, bind);
  const counts = pipeline.keys.map((_, i) => `count(k${i + 1})`);
  await pool.query(
    `
select ${counts.join(", ")}
from (
  select ${typedKeys(pipeline)}
  from unnest(${arrays}) as u (${keyNames(pipeline)})
  offset 0
) as keys`,
    values,
  );
}
