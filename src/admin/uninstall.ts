import type { ClientBase } from "pg";
import { configurationError } from "../errors.js";
import { callSchema } from "../database/call-schema.js";
import { committedMigrations } from "./migrate.js";

/**
 * Removes embedd: every watched table is left, then the schema goes, and its migrations' bookkeeping.
 * @returns the tables that were left
 * @throws EmbeddError of kind `configuration` where embedd.chunks holds rows, unless `dropChunks`
 */
export async function uninstall(
  client: ClientBase,
  { dropColumns, dropChunks }: { dropColumns: boolean; dropChunks: boolean },
): Promise<string[]> {
  return callSchema(async () => {
    await client.query("begin");
    try {
      await client.query("set local lock_timeout = '10s'; set local client_min_messages = warning");
      const chunks = await client.query<{ count: string }>("select count(*) as count from embedd.chunks");
      const count = chunks.rows[0]?.count ?? "0";
      if (count !== "0" && !dropChunks) {
        throw configurationError(
          "chunks_left",
          `embedd.chunks holds ${count} rows, which would go with the schema`,
          "embedd uninstall --drop-chunks",
        );
      }
      await client.query(
        "select embedd.revoke_worker(rolname) from embedd.worker_roles() as role join pg_roles r on r.oid = role",
      );
      const { rows } = await client.query<{ relation: string }>(
        "select distinct relation::text as relation from embedd.pipelines where relation <> 'embedd.chunks'::regclass and embedd.pipeline_is_whole(pipelines) order by 1",
      );
      for (const { relation } of rows) {
        await client.query("select embedd.unwatch($1, drop_columns => $2)", [relation, dropColumns]);
      }
      await client.query("drop schema embedd cascade");
      await dropBookkeeping(client);
      await client.query("commit");
      return rows.map(({ relation }) => relation);
    } catch (error) {
      await client.query("rollback");
      throw error;
    }
  });
}

/** Only where nobody else's migrations are in it. */
async function dropBookkeeping(client: ClientBase): Promise<void> {
  const { rows } = await client.query<{ there: boolean }>(
    "select to_regclass('graphile_migrate.migrations') is not null as there",
  );
  if (rows[0]?.there !== true) return;
  const hashes = (await committedMigrations()).map(({ hash }) => hash);
  const foreign = await client.query("select from graphile_migrate.migrations where hash <> all ($1)", [
    hashes,
  ]);
  if (foreign.rowCount === 0) await client.query("drop schema graphile_migrate cascade");
}
