import pg from "pg";
import type { ClientBase, Pool } from "pg";
import { configurationError } from "../errors.js";
import { retryDeadlock } from "./retry-deadlock.js";

export type IndexKind = "pending" | "vector";

interface Table {
  relation: string;
  schema: string;
  partitioned: boolean;
}

/**
 * Builds one of a pipeline's indexes CONCURRENTLY, so that writers are not blocked. Drops what an earlier attempt
 * left unfinished. PostgreSQL cannot build concurrently on a partitioned table, so there the partitions' indexes
 * are built one by one and attached. The index goes where the one that it replaces is. Must run outside a transaction,
 * as the table's owner.
 */
export async function buildIndex(client: ClientBase, pipelineId: number, kind: IndexKind): Promise<void> {
  const { rows } = await client.query<NamedIndex>(
    `select
       p.relation::oid::text as oid,
       embedd.${kind}_index_name(p.id) as name,
       embedd.${kind}_index_definition(p) as definition,
       ${tablespaceOf(`embedd.${kind}_index_name(coalesce(p.shadow_of, p.id))`)} as tablespace
     from embedd.pipelines p
     where id = $1`,
    [pipelineId],
  );
  const index = rows[0];
  if (index !== undefined) await buildNamed(client, index);
}

export interface NamedIndex {
  /** Of the table. */
  oid: string;
  name: string;
  definition: string;
  /** null: the default one. */
  tablespace: string | null;
}

/** SQL for the tablespace of an index of the pipeline `p`; NULL: the database's own. @param name SQL for the index's name */
export const tablespaceOf = (name: string): string => `(
         select s.spcname
         from pg_index i
         join pg_class x on x.oid = i.indexrelid
         join pg_tablespace s on s.oid = x.reltablespace
         where i.indrelid = p.relation and x.relname = ${name})`;

export async function buildNamed(
  client: ClientBase,
  { oid, name, definition, tablespace }: NamedIndex,
): Promise<void> {
  const build = () => buildOn(client, oid, name, definition);
  await (tablespace === null ? build() : inTablespace(client, tablespace, build));
}

/** Creates the indexes of `work` in a tablespace; empty: in the database's own. Calls can be nested. */
export async function inTablespace<T>(client: ClientBase, name: string, work: () => Promise<T>): Promise<T> {
  const set = "select set_config('default_tablespace', $1, false)";
  const { rows } = await client.query<{ before: string }>(
    "select current_setting('default_tablespace') as before",
  );
  await client.query(set, [name]);
  try {
    return await work();
  } finally {
    await client.query(set, [rows[0]?.before ?? ""]).catch(() => undefined);
  }
}

/**
 * Builds one index on the table with this OID.
 * @param name quoted by the caller, as is the definition
 * @returns the index's name with its schema
 * @throws EmbeddError with code `name_taken` if something else has the name
 */
export async function buildOn(
  client: ClientBase,
  oid: string,
  name: string,
  definition: string,
): Promise<string> {
  const before = await findInvalid(client, oid, name);
  const build = () => retryDeadlock(() => buildOnce(client, oid, name, definition));
  const { comment, tablespace } = before ?? { comment: null, tablespace: null };
  const built = await (tablespace === null ? build() : inTablespace(client, tablespace, build));
  if (comment !== null) await client.query(`comment on index ${built} is ${pg.escapeLiteral(comment)}`);
  return built;
}

async function buildOnce(client: ClientBase, oid: string, name: string, definition: string): Promise<string> {
  const table = await describe(client, oid);
  const qualified = `${table.schema}.${name}`;
  if ((await findInvalid(client, oid, name)) !== null)
    await client.query(`drop index concurrently ${qualified}`);
  await refuseTaken(client, oid, table, name);
  if (!table.partitioned) {
    await client.query(`create index concurrently if not exists ${name} on ${table.relation} ${definition}`);
    // IF NOT EXISTS only looks at the name.
    await refuseTaken(client, oid, table, name);
    return qualified;
  }
  await client.query(`create index if not exists ${name} on only ${table.relation} ${definition}`);
  await refuseTaken(client, oid, table, name);
  for (const child of await partitionsWithout(client, oid, qualified)) {
    const part = await buildOn(client, child, `${name}_${child}`, definition);
    await client.query(`alter index ${qualified} attach partition ${part}`);
  }
  return qualified;
}

async function describe(client: ClientBase, oid: string): Promise<Table> {
  const { rows } = await client.query<Table>(
    `select
       format('%I.%I', n.nspname, c.relname) as relation,
       quote_ident(n.nspname) as schema,
       c.relkind = 'p' as partitioned
     from pg_class c
     join pg_namespace n on n.oid = c.relnamespace
     where c.oid = $1`,
    [oid],
  );
  const table = rows[0];
  if (table === undefined) throw new Error("the table was dropped");
  return table;
}

/** The partitions that have no part of an index yet. A partition that came later has one, under a name of PostgreSQL's. */
async function partitionsWithout(client: ClientBase, oid: string, index: string): Promise<string[]> {
  const { rows } = await client.query<{ partition: string }>(
    `select p.inhrelid::oid::text as partition
     from pg_inherits p
     where p.inhparent = $1
       and not exists (
         select
         from pg_inherits part
         join pg_index i on i.indexrelid = part.inhrelid
         where part.inhparent = $2::regclass and i.indrelid = p.inhrelid)
     order by p.inhrelid`,
    [oid, index],
  );
  return rows.map(({ partition }) => partition);
}

async function refuseTaken(client: ClientBase, oid: string, table: Table, name: string): Promise<void> {
  const { rows } = await client.query<{ holder: string; kind: string }>(
    `select format('%I.%I', n.nspname, c.relname) as holder, case when i.indexrelid is null then 'relation' else 'index' end as kind
     from pg_class t
     join pg_class c on c.relnamespace = t.relnamespace and c.relname = $2
     join pg_namespace n on n.oid = c.relnamespace
     left join pg_index i on i.indexrelid = c.oid
     where t.oid = $1 and i.indrelid is distinct from t.oid`,
    [oid, name],
  );
  const taken = rows[0];
  if (taken === undefined) return;
  throw configurationError(
    "name_taken",
    `an index of ${table.relation} needs the name ${name}, which ${taken.kind === "index" ? "an index of another table" : "another relation"} has`,
    `ALTER TABLE ${taken.holder} RENAME TO ${name}_other;  -- as its owner`,
  );
}

interface InvalidIndex {
  comment: string | null;
  /** null: the default one. */
  tablespace: string | null;
}

/** A CREATE INDEX CONCURRENTLY that was cut off leaves an invalid index: it slows writers and no query uses it. */
async function findInvalid(client: ClientBase, oid: string, name: string): Promise<InvalidIndex | null> {
  const { rows } = await client.query<InvalidIndex>(
    `select obj_description(c.oid, 'pg_class') as comment, s.spcname as tablespace
     from pg_index i
     join pg_class c on c.oid = i.indexrelid
     left join pg_tablespace s on s.oid = c.reltablespace
     where i.indrelid = $1 and c.relname = $2 and not i.indisvalid and c.relkind = 'i'`,
    [oid, name],
  );
  return rows[0] ?? null;
}

/** `failed`: an index that an earlier build left unfinished, and no session builds. */
export type IndexState = "queued" | "building" | "failed" | "ready";

/** The state of a pipeline's vector index; null: it asks for none. */
export async function vectorIndexState(pool: Pool, pipelineId: number): Promise<IndexState | null> {
  const { rows } = await pool.query<{ state: IndexState | null }>(
    "select embedd.vector_index_state(p) as state from embedd.pipelines p where id = $1",
    [pipelineId],
  );
  return rows[0]?.state ?? null;
}
