import type { TestDatabase } from "./database.js";

/** Destroys the stored parts of all long values of a table, which PostgreSQL can no longer read then. */
export async function destroyLongValues(db: TestDatabase, relation: string): Promise<void> {
  await db.query("create extension if not exists pg_surgery");
  const { rows } = await db.query<{ toast: string }>(
    "select reltoastrelid::regclass::text as toast from pg_class where oid = $1::regclass",
    [relation],
  );
  const toast = rows[0]?.toast ?? "";
  await db.query(`select heap_force_kill('${toast}'::regclass, array(select ctid from ${toast}))`);
}
