import { setTimeout as sleep } from "node:timers/promises";
import type { ClientBase, Pool } from "pg";
import { buildIndex, buildOn } from "../../database/build-index.sql.js";
import { INDEX_CLASS } from "../../database/advisory-locks.js";
import type { Switch } from "./switches.sql.js";

export interface SwitchIndex {
  /** The old column's index, whose name it will have; null: the pipeline's own. */
  replaces: string | null;
  /** Until the swap. */
  name: string;
  state: "queued" | "building" | "ready";
  /** What stands after ON table, for the new columns. */
  definition: string;
  /** Its table or partition. */
  tableOid: string;
}

interface CarriedRow {
  replaces: string;
  name: string;
  state: SwitchIndex["state"];
  definition: string;
  tableOid: string;
  /** Of both columns, quoted, and the model's as a literal: the old one, and the new one. */
  names: [string, string][];
}

/** The indexes that the new columns need before the swap: one for each of the old columns', and the pipeline's own. */
export async function switchIndexes(db: Pool | ClientBase, running: Switch): Promise<SwitchIndex[]> {
  const { rows } = await db.query<CarriedRow>(
    `select x.relname as replaces, format('embedd_next_%s', x.oid) as name, t.oid::text as "tableOid",
       substr(pg_get_indexdef(x.oid), length(format('CREATE INDEX %I ON %s%I.%I ', x.relname,
         case t.relkind when 'p' then 'ONLY ' else '' end, n.nspname, t.relname)) + 1) as definition,
       coalesce((select case when ni.indisvalid then 'ready' else 'building' end from pg_index ni join pg_class nx on nx.oid = ni.indexrelid
         where ni.indrelid = t.oid and nx.relname = format('embedd_next_%s', x.oid)), 'queued') as state,
       jsonb_build_array(jsonb_build_array(quote_ident(p.embedding_column), quote_ident(s.embedding_column)),
         jsonb_build_array(quote_ident(p.model_column), quote_ident(s.model_column)),
         jsonb_build_array(quote_literal(p.model), quote_literal(s.model))) as names
     from embedd.pipelines s join embedd.pipelines p on p.id = s.shadow_of
     cross join lateral embedd.table_tree(p.relation) r
     join pg_class t on t.oid = r join pg_namespace n on n.oid = t.relnamespace
     join pg_index i on i.indrelid = r and i.indisvalid and not i.indisunique
     join pg_class x on x.oid = i.indexrelid and not x.relispartition
     where s.id = $1 and x.relname not in (embedd.pending_index_name(p.id), embedd.vector_index_name(p.id))
       and exists (select from pg_depend d join pg_attribute a on a.attrelid = r and a.attnum = d.refobjsubid
         where d.classid = 'pg_class'::regclass and d.objid = x.oid and d.refclassid = 'pg_class'::regclass and d.refobjid = r
           and a.attname in (p.embedding_column, p.model_column))
     order by x.relname`,
    [running.shadow],
  );
  const carried = rows.map(({ names, definition, ...row }) => ({
    ...row,
    definition: translate(definition, new Map(names), running.fromDimensions, running.toDimensions),
  }));
  const own = await ownIndex(db, running);
  return own === undefined ? carried : [...carried, own];
}

/**
 * An index definition as PostgreSQL prints it, for other columns and another model. Strings are left as they are
 * but for the model's name; a cast to the dimension of the old column is one to that of the new.
 */
export function translate(
  definition: string,
  names: ReadonlyMap<string, string>,
  fromDimensions: number,
  toDimensions: number,
): string {
  const token =
    /'(?:[^']|'')*'|"(?:[^"]|"")*"|\b(?:vector|halfvec|sparsevec|bit)\(\d+\)|[\p{L}_][\p{L}\p{N}_$]*/gu;
  const cast = new RegExp(`^[a-z]+\\(${fromDimensions}\\)$`);
  return definition.replace(token, (word) =>
    cast.test(word) ? word.replace(/\d+/, String(toDimensions)) : (names.get(word) ?? word),
  );
}

async function ownIndex(
  db: Pool | ClientBase,
  { shadow, indexMethod }: Switch,
): Promise<SwitchIndex | undefined> {
  if (indexMethod === null) return undefined;
  const { rows } = await db.query<SwitchIndex>(
    `select null as replaces, embedd.vector_index_name(p.id) as name, embedd.vector_index_state(p) as state,
       embedd.vector_index_definition(p) as definition, p.relation::oid::text as "tableOid"
     from embedd.pipelines p where p.id = $1`,
    [shadow],
  );
  return rows[0];
}

/** Builds what is missing, CONCURRENTLY; resumes what was cut off. Within `withIndexesHeld`. */
export async function buildSwitchIndexes(
  client: ClientBase,
  running: Switch,
  onBuild: (index: SwitchIndex) => void,
): Promise<void> {
  for (const index of await switchIndexes(client, running)) {
    if (index.state === "ready") continue;
    onBuild(index);
    if (index.replaces === null) await buildIndex(client, running.shadow, "vector");
    else await buildOn(client, index.tableOid, index.name, index.definition);
  }
  // Without statistics of the new model's name a search for it is planned as if hardly a row had it.
  const { rows } = await client.query<{ columns: string }>(
    "select format('%I, %I', embedding_column, model_column) as columns from embedd.pipelines where id = $1",
    [running.shadow],
  );
  await client.query(`analyze ${running.relation} (${rows[0]?.columns ?? ""})`);
}

/**
 * Keeps workers from building the pipeline's own index meanwhile: two CREATE INDEX CONCURRENTLY of one table
 * wait for each other's snapshots. So would waiting for the lock in one statement.
 */
export async function withIndexesHeld<T>(
  client: ClientBase,
  { shadow }: Switch,
  work: () => Promise<T>,
): Promise<T> {
  for (;;) {
    const { rows } = await client.query<{ free: boolean }>(
      `select pg_try_advisory_lock(${INDEX_CLASS}, $1::integer) as free`,
      [shadow],
    );
    if (rows[0]?.free === true) break;
    await sleep(200);
  }
  try {
    return await work();
  } finally {
    await client.query(`select pg_advisory_unlock(${INDEX_CLASS}, $1::integer)`, [shadow]);
  }
}
