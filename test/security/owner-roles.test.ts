import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../helpers/database.js";
import type { Database } from "../helpers/database.js";
import { embedd, hostileTable, newDatabase, ranAs } from "../helpers/owner-code.js";
import type { Owner } from "../helpers/owner-code.js";
import { connectWriter } from "../helpers/watched-table.js";

const db = useDatabase();

/** A table of each owner, watched, with one row. */
async function tablesOf(database: Database, ...owners: Owner[]): Promise<void> {
  for (const { role } of owners) {
    await database.query(`
      create schema ${role} authorization ${role};
      create table ${role}.docs (id int primary key, body text, embedding vector(384), embedding_model text);
      insert into ${role}.docs values (1, 'a secret of ${role}');
      alter table ${role}.docs owner to ${role};
      select embedd.watch('${role}.docs', '{body}', existing => 'keep')`);
  }
}

const riskOf = async (database: Pick<Database, "query">, table: string): Promise<string | null> =>
  (await database.query<{ what: string | null }>(`select what from embedd.code_risk('${table}')`)).rows[0]
    ?.what ?? null;

describeServer("an owner of a watched table", () => {
  it("reaches no other owner's table through a temporary table of its name", async () => {
    const [database, app, other] = (await newDatabase(db, 2)) as [Database, Owner, Owner];
    await tablesOf(database, app, other);
    await database.query(`select embedd.grant_owner('${app.role}')`);
    const client = await connectWriter(app.url);
    await client.query(`create temp table docs (id int primary key, body text, embedding vector(384), embedding_model text);
      set embedd.search_path = '${other.role}, pg_temp'`);
    for (const call of [
      "embedd.set_paused_for_owner('pg_temp.docs'::regclass, null, true)",
      "embedd.unwatch_for_owner('pg_temp.docs'::regclass, null, true)",
      "embedd.watch_for_owner('pg_temp.docs'::regclass, '{body}', 'embedding', null, null, null, null, true, 'keep')",
    ])
      await expect(client.query(`select ${call}`), call).rejects.toMatchObject({ code: "EMBDD" });
    const { rows } = await database.query(
      "select relation::text, paused from embedd.pipelines where relation_name = 'docs' order by id",
    );
    expect(rows).toEqual([app, other].map(({ role }) => ({ relation: `${role}.docs`, paused: false })));
  });

  it("reaches nothing that embedd keeps about tables on which its worker has no rights", async () => {
    const [database, app, other, worker] = (await newDatabase(db, 3)) as [Database, Owner, Owner, Owner];
    await tablesOf(database, app);
    await database.query(`select embedd.grant_worker('${worker.role}')`);
    // The worker's role is one for all tables, but this one is another owner's.
    await tablesOf(database, other);
    await embedd(worker.url, "run", "--once");
    await database.query(`
      insert into embedd.vectors (owner, text_hash, model, dimensions, embedding)
      select '${other.role}'::regrole, 'x', 'm', 384, array_fill(1, '{384}')::vector;
      insert into embedd.failures (pipeline_id, key, content_hash, code, error, next_attempt_at)
      select id, '9', 'x', 'x', 'x', now() from embedd.pipelines where relation_schema = '${other.role}'`);
    const client = await connectWriter(worker.url);
    const theirs = `(select id from embedd.pipelines where relation_schema = '${other.role}')`;
    for (const sql of [
      `select from embedd.vectors where owner = '${other.role}'::regrole`,
      `update embedd.vectors set used_at = now() where owner = '${other.role}'::regrole`,
      `delete from embedd.failures where pipeline_id = ${theirs}`,
      `update embedd.pipelines set former_models = '{x}' where id = ${theirs}`,
    ])
      expect((await client.query(sql)).rowCount, sql).toBe(0);
    await expect(
      client.query(
        `insert into embedd.leases (pipeline_id, worker, keys, expires_at) values (${theirs}, 1, '{1}', now())`,
      ),
    ).rejects.toMatchObject({ code: "42501" });
    await database.query(`select embedd.revoke_worker('${worker.role}')`);
  });

  it("gains no right of the role that logged in before SET ROLE", async () => {
    const [database, app, worker] = (await newDatabase(db, 2)) as [Database, Owner, Owner];
    const table = await hostileTable(database, app);
    await database.query(`select embedd.watch('${table}', '{body}', existing => 'keep');
      select embedd.grant_worker('${worker.role}')`);
    const address = new URL(database.url);
    address.searchParams.set("options", `-c role=${worker.role}`);
    const run = await embedd(address.toString(), "run", "--once");
    expect(run.code).toBe(3);
    expect(run.stderr).toMatch(/with the rights of superuser/);
    expect(await ranAs(database, app)).toEqual([]);
    await database.query(`select embedd.revoke_worker('${worker.role}')`);
  });

  it("runs no code with the rights of another owner who looks at the status of all tables", async () => {
    const [database, app, other] = (await newDatabase(db, 2)) as [Database, Owner, Owner];
    const table = await hostileTable(database, app);
    await tablesOf(database, other);
    await database.query(`select embedd.watch('${table}', '{body}', existing => 'keep');
      select embedd.grant_owner('${other.role}')`);
    const client = await connectWriter(app.url);
    await client.query(`grant select on ${table} to public`);
    expect((await embedd(other.url, "status")).stdout).toMatch(/^docs\.embedding .*\n {2}pending {3}1,/m);
    await embedd(other.url, "estimate");
    expect(await ranAs(database, app)).toEqual([]);
  });

  it("gains nothing from a worker that bypasses row-level security, or that could become another worker", async () => {
    const [database, app, other, worker, otherWorker] = (await newDatabase(db, 4)) as [
      Database,
      Owner,
      Owner,
      Owner,
      Owner,
    ];
    await tablesOf(database, app, other);
    await database.query(`
      select embedd.grant_worker('${worker.role}', '${app.role}'), embedd.grant_worker('${otherWorker.role}', '${other.role}')`);
    const client = await connectWriter(worker.url);
    const risk = () => riskOf(client, `${app.role}.docs`);
    expect(await risk()).toBeNull();
    await database.query(`alter role ${worker.role} bypassrls`);
    expect(await risk()).toContain("bypasses row-level security");
    await database.query(
      `alter role ${worker.role} nobypassrls noinherit; grant ${otherWorker.role} to ${worker.role}`,
    );
    expect(await risk()).toContain(`also works on tables of ${other.role}`);
    await database.query(`revoke ${otherWorker.role} from ${worker.role}`);
    // Another owner's gift is that owner's affair, and does not stop this worker.
    await database.query(`grant select, update on ${other.role}.docs to ${worker.role}`);
    expect(await risk()).toBeNull();
    await database.query(`revoke select, update on ${other.role}.docs from ${worker.role};
      select embedd.revoke_worker(role) from unnest('{${worker.role},${otherWorker.role}}'::text[]) as role`);
  });

  it("gets what grant says, also after DROP OWNED, and loses a table with its ownership", async () => {
    const [database, app, other, worker] = (await newDatabase(db, 3)) as [Database, Owner, Owner, Owner];
    await tablesOf(database, app, other);
    const scopes = async () =>
      (await database.query("select role::text, owner::text from embedd.worker_scopes")).rows;
    await database.query(
      `select embedd.grant_worker('${worker.role}', '${other.role}'); drop owned by ${worker.role}`,
    );
    await database.query(`select embedd.grant_worker('${worker.role}', '${app.role}')`);
    expect(await scopes()).toEqual([{ role: worker.role, owner: app.role }]);
    const may = async () =>
      (
        await database.query(
          `select has_column_privilege('${worker.role}', '${app.role}.docs', 'embedding', 'UPDATE') as may`,
        )
      ).rows[0] as unknown;
    expect(await may()).toEqual({ may: true });
    await database.query(`alter table ${app.role}.docs owner to ${other.role}`);
    await database.query(`select embedd.repair('${app.role}.docs', existing => 'keep')`);
    expect(await may()).toEqual({ may: false });
    await database.query(`select embedd.revoke_worker('${worker.role}')`);
  });

  it("gains no superuser's rights by a table on which it may create triggers, or from which its own inherits", async () => {
    const [database, app] = (await newDatabase(db, 1)) as [Database, Owner];
    await tablesOf(database, app);
    await database.query(`
      create table docs (id int primary key, body text, embedding vector(384), embedding_model text);
      select embedd.watch('docs', '{body}')`);
    expect(await riskOf(database, "docs")).toBeNull();
    await database.query(`grant all on docs to ${app.role}`);
    expect(await riskOf(database, "docs")).toMatch(
      new RegExp(`role ${app.role}, which may create triggers, could run code with the rights of superuser`),
    );
    await database.query(`revoke trigger on docs from ${app.role}; grant trigger on docs to public`);
    expect(await riskOf(database, "docs")).toMatch(/role public, which may create triggers/);
    await database.query(`revoke trigger on docs from public`);
    expect(await riskOf(database, "docs")).toBeNull();
    await database.query(`create table child () inherits (docs); alter table child owner to ${app.role}`);
    const run = await embedd(database.url, "run", "--once");
    expect(run.stderr).toMatch(
      /docs is not served: it takes part in table inheritance.*\n {2}try: .*ALTER TABLE child NO INHERIT docs/,
    );
    expect(run.code).toBe(3);
  });

  it("gives its worker no right on a function that it may not execute", async () => {
    const [database, app, worker] = (await newDatabase(db, 2)) as [Database, Owner, Owner];
    await database.query(`
      create schema private; grant usage on schema private to public;
      create function private.render(anyenum) returns text language sql as $$ select 'x' $$;
      revoke all on function private.render(anyenum) from public;
      create schema ${app.role} authorization ${app.role};
      select embedd.grant_worker('${worker.role}')`);
    const client = await connectWriter(app.url);
    await client.query(`
      set search_path = ${app.role}, public;
      create type mood as enum ('glad');
      create cast (mood as text) with function private.render(anyenum);
      create table docs (id int primary key, mood mood, embedding vector(384), embedding_model text)`);
    await database.query(`select embedd.watch('${app.role}.docs', '{mood}')`);
    const { rows } = await database.query(
      `select has_function_privilege('${worker.role}', 'private.render(anyenum)', 'EXECUTE') as may`,
    );
    expect(rows).toEqual([{ may: false }]);
    await database.query(`select embedd.revoke_worker('${worker.role}')`);
  });

  it("stops no writer of another owner's table while it watches its own", async () => {
    const [database, app, other] = (await newDatabase(db, 2)) as [Database, Owner, Owner];
    await tablesOf(database, app);
    await database.query(
      `create schema ${other.role} authorization ${other.role}; select embedd.grant_owner('${other.role}')`,
    );
    const [client, writer] = [await connectWriter(other.url), await connectWriter(app.url)];
    await client.query(`create table ${other.role}.docs (id int primary key, body text, embedding vector(384), embedding_model text);
      begin; select embedd.watch('${other.role}.docs', '{body}')`);
    await writer.query(`set statement_timeout = '30s'; set lock_timeout = '10s';
      update ${app.role}.docs set embedding = array_fill(1, '{384}')::vector, embedding_model = 'm';
      update ${app.role}.docs set body = 'another'`);
    expect((await writer.query(`select from ${app.role}.docs where embedding is null`)).rowCount).toBe(1);
    await client.query("rollback");
  });
});
