import { expect, it } from "vitest";
import { useDatabase } from "../helpers/database.js";
import { hashProvider } from "../helpers/providers.js";
import { waitFor } from "../helpers/wait.js";
import { createRole } from "../helpers/watched-table.js";
import { startTestWorker } from "../helpers/worker.js";

const db = useDatabase();

async function createTable(name: string): Promise<void> {
  await db.query(`
    create table ${name} (id int primary key, body text, embedding vector(384), embedding_model text);
    select embedd.watch('${name}', '{body}')`);
}

it("a text's vector is reused in the tables of one owner, and in no table of another", async () => {
  const { role } = await createRole(db);
  for (const table of ["mine", "mine_too", "theirs"]) await createTable(table);
  await db.query(`alter table theirs owner to ${role}; select embedd.trust_owner('${role}')`);
  const provider = hashProvider();
  const worker = await startTestWorker(db, provider, { reuse: true });
  /** Writes a row, and returns how many texts the model read for it. */
  const embed = async (table: string, id: number, text: string): Promise<number> => {
    const before = provider.texts.length;
    await db.query(`insert into ${table} values (${id}, '${text}')`);
    await waitFor(
      async () => (await db.query(`select from ${table} where embedding is null`)).rowCount === 0,
      { what: `the vector of ${table}` },
    );
    await worker.idle();
    return provider.texts.length - before;
  };
  /** Gives the table to another owner, and waits until the worker has seen it. */
  const give = async (owner: string, shared: boolean): Promise<void> => {
    await db.query(`alter table theirs owner to ${owner}; notify embedd, 'pipelines'`);
    let id = 100;
    await waitFor(
      async () => {
        const text = `for ${owner}, ${++id}`;
        expect(await embed("mine", id + (shared ? 0 : 1_000), text)).toBe(1);
        return (await embed("theirs", id + (shared ? 0 : 1_000), text)) === (shared ? 0 : 1);
      },
      { what: `the worker to see that ${owner} owns the table` },
    );
  };

  expect(await embed("mine", 1, "a secret")).toBe(1);
  expect(await embed("mine_too", 1, "a secret")).toBe(0);
  expect(await embed("theirs", 1, "a secret")).toBe(1);
  expect(await embed("theirs", 2, "a secret")).toBe(0);
  expect(await embed("theirs", 3, "planted")).toBe(1);
  expect(await embed("mine", 2, "planted")).toBe(1);

  await give("current_user", true);
  await give(role, false);
  await db.query("drop table theirs");
});

it("only workers' roles and embedd's owner may write to the vector cache", async () => {
  const { role } = await createRole(db);
  const may = async (): Promise<unknown> =>
    (
      await db.query(
        "select has_table_privilege($1, 'embedd.vectors', 'SELECT') as read, has_table_privilege($1, 'embedd.vectors', 'INSERT') as write",
        [role],
      )
    ).rows[0];
  await db.query(`select embedd.grant_owner('${role}')`);
  expect(await may()).toEqual({ read: false, write: false });
  await db.query(`select embedd.revoke_worker('${role}'), embedd.grant_worker('${role}')`);
  expect(await may()).toEqual({ read: true, write: true });
  await db.query(`select embedd.revoke_worker('${role}')`);
});
