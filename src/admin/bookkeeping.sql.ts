import type { ClientBase } from "pg";

/** graphile_migrate.migrations: the one list that a database has, of embedd or of another application. */
export interface Bookkeeping {
  /** Of the migrations that were run, in order. */
  hashes: string[];
  /** Whether embedd wrote the list, in this build or another. */
  ours: boolean;
}

/** The comment on embedd's list. Its hashes alone do not tell it from another application's, because builds differ. */
const MARK = "The migrations of embedd";

/** The hash of the first migration of the builds that did not mark their list yet. */
const UNMARKED_BUILDS = "sha1:a95e30cb9acf57b786437035ad0edff20359eaeb";

/** @param known the hashes of this build's migrations */
export async function readBookkeeping(client: ClientBase, known: readonly string[]): Promise<Bookkeeping> {
  const { rows: lists } = await client.query<{ comment: string | null }>(
    `select obj_description(list, 'pg_class') as comment
     from to_regclass('graphile_migrate.migrations') as list
     where list is not null`,
  );
  const list = lists[0];
  if (list === undefined) return { hashes: [], ours: false };
  const { rows } = await client.query<{ hash: string }>(
    "select hash from graphile_migrate.migrations order by filename",
  );
  const hashes = rows.map(({ hash }) => hash);
  const first = hashes[0];
  const ours =
    first !== undefined && (list.comment === MARK || first === UNMARKED_BUILDS || known.includes(first));
  return { hashes, ours };
}

/** Every later build recognizes a marked list. Only its owner may mark it, so a mark that exists is left alone. */
export async function markBookkeeping(client: ClientBase): Promise<void> {
  const { rowCount } = await client.query(
    "select where obj_description('graphile_migrate.migrations'::regclass, 'pg_class') is distinct from $1",
    [MARK],
  );
  if (rowCount !== 0) await client.query(`comment on table graphile_migrate.migrations is '${MARK}'`);
}

/** Empties embedd's list, and drops its schema unless it holds something else. Leaves another application's list alone. */
export async function dropBookkeeping(client: ClientBase, known: readonly string[]): Promise<void> {
  const { ours } = await readBookkeeping(client, known);
  if (!ours) return;
  await client.query("delete from graphile_migrate.migrations");
  await client.query("comment on table graphile_migrate.migrations is null");
  const { rowCount: others } = await client.query(
    `select from pg_class
     where relnamespace = 'graphile_migrate'::regnamespace
       and relkind in ('r', 'p', 'v', 'm', 'f', 'S')
       and relname not in ('migrations', 'current')
     union all
     select from pg_proc where pronamespace = 'graphile_migrate'::regnamespace
     union all
     select from graphile_migrate.current`,
  );
  if (others === 0) await client.query("drop schema graphile_migrate cascade");
}
