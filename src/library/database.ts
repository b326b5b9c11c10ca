import { Pool } from "pg";
import type { ClientBase } from "pg";
import { z } from "zod";
import { checkArguments, databaseAddress } from "../check-arguments.js";
import { explainConnectionError } from "../database/connection-error.js";
import { callSchemaAs } from "../database/denied.sql.js";
import { createPool, withOwnerClient } from "../database/pool.js";

/** An address such as `postgres://user@host:5432/database`, or a pool of `pg`, which stays open. */
export type Database = string | Pool;

const database = z.union([databaseAddress, z.instanceof(Pool)], {
  error: "must be an address such as postgres://user@host:5432/database, or a Pool of pg",
});

/** Runs `work` on a database. @param caller is named in the error if `db` is none */
export async function onPool<T>(caller: string, db: Database, work: (pool: Pool) => Promise<T>): Promise<T> {
  checkArguments(caller, z.object({ database }), { database: db });
  if (typeof db !== "string") return callSchemaAs(db, undefined, () => work(db));
  const pool = createPool({ connectionString: db, applicationName: "embedd", max: 1 });
  try {
    return await callSchemaAs(pool, db, () => work(pool));
  } catch (error) {
    throw explainConnectionError(error, db);
  } finally {
    await pool.end();
  }
}

/** The same on one connection, which is the table owner's. */
export async function onClient<T>(
  caller: string,
  db: Database,
  work: (client: ClientBase) => Promise<T>,
): Promise<T> {
  checkArguments(caller, z.object({ database }), { database: db });
  if (typeof db === "string") {
    try {
      return await withOwnerClient(db, (client) => callSchemaAs(client, db, () => work(client)));
    } catch (error) {
      throw explainConnectionError(error, db);
    }
  }
  const client = await db.connect();
  try {
    return await callSchemaAs(client, undefined, () => work(client));
  } finally {
    client.release();
  }
}
