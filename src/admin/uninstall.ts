import type { ClientBase } from "pg";
import { configurationError } from "../errors.js";
import { callSchema } from "../database/call-schema.js";
import { dropBookkeeping } from "./bookkeeping.sql.js";
import { committedMigrations } from "./migrate.js";

/**
 * Removes embedd, also the schema of another build: unwatches every table, then drops the schema and the list
 * of its migrations.
 * @returns the tables that were unwatched
 * @throws EmbeddError of kind `configuration`, code `chunks_left`, if embedd.chunks holds rows, unless `dropChunks`
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
      await dropBookkeeping(
        client,
        (await committedMigrations()).map(({ hash }) => hash),
      );
      await client.query("commit");
      return rows.map(({ relation }) => relation);
    } catch (error) {
      await client.query("rollback");
      throw error;
    }
  });
}
