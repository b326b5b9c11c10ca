import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { migrate } from "#embedd/admin/migrate.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import type { Database } from "../../../helpers/database.js";
import { countNotifications } from "../../../helpers/watched-table.js";

const db = useDatabase();

/** A database where PUBLIC has no right outside of the system's schemas, with a table and a role that may write to it. */
async function hardened(type: string): Promise<{ database: Database; writer: pg.Client; pipeline: number }> {
  const database = await db.createDatabase();
  await database.query(`
    alter default privileges revoke execute on functions from public;
    create schema extensions; create extension vector schema extensions;
    create schema app;
    create table app.docs (id int primary key, body text, embedding extensions.${type}(3), embedding_model text)`);
  await migrate(database.url);
  const { rows } = await database.query<{ id: number }>("select embedd.watch('app.docs', '{body}') as id");
  const role = `writer_${Math.random().toString(36).slice(2, 10)}`;
  await database.query(`
    do $$
    declare target text;
    begin
      foreach target in array array['public', 'extensions', 'embedd', 'app'] loop
        execute format('revoke all on schema %s from public', target);
        execute format('revoke all on all routines in schema %s from public', target);
        execute format('revoke all on all tables in schema %s from public', target);
      end loop;
    end $$;
    create role ${role} login;
    grant usage on schema app to ${role};
    grant select, insert, update on app.docs to ${role}`);
  const url = new URL(database.url);
  url.username = role;
  const writer = new pg.Client({ connectionString: url.toString() });
  await writer.connect();
  onTestFinished(async () => {
    await writer.end();
    await database.query(`drop owned by ${role}; drop role ${role}`);
  });
  return { database, writer, pipeline: rows[0]?.id ?? 0 };
}

describeServer("a writer with SELECT, INSERT and UPDATE on the table and no other right", () => {
  it.each(["vector", "halfvec"])("writes in every way, and edits lose their %s", async (type) => {
    const { database, writer } = await hardened(type);
    const forgotten = async () =>
      (await database.query("select from app.docs where embedding is null")).rowCount;
    const embed = () => database.query("update app.docs set embedding = '[1,2,3]', embedding_model = 'm'");
    await writer.query("insert into app.docs (id, body) values (1, 'one')");
    await embed();
    await writer.query("update app.docs set body = body, embedding = embedding");
    expect(await forgotten()).toBe(0);
    await writer.query("update app.docs set body = 'edited'");
    expect(await forgotten()).toBe(1);
    await embed();
    await writer.query("update app.docs set body = repeat('long ', 10000), embedding = embedding");
    expect(await forgotten()).toBe(1);
    await embed();
    await writer.query("update app.docs set body = repeat('long ', 10000)");
    expect(await forgotten()).toBe(0);
    await writer.query("update app.docs set body = repeat('gnol ', 10000)");
    expect(await forgotten()).toBe(1);
    await writer.query(
      "insert into app.docs (id, body) values (1, 'again') on conflict (id) do update set body = excluded.body",
    );
  });

  it("wakes a sleeping worker", async () => {
    const { database, writer, pipeline } = await hardened("vector");
    const counter = await countNotifications(database);
    const sleeper = new pg.Client({ connectionString: database.url });
    await sleeper.connect();
    onTestFinished(() => sleeper.end());
    await sleeper.query("select pg_advisory_lock(embedd.lock_class('gate'), $1)", [pipeline]);
    await writer.query("insert into app.docs (id, body) values (1, 'one')");
    expect(await counter.count()).toBe(1);
  });
});

describeServer("where the server's queue of notifications is filling up", () => {
  it("writers, owners and retries do not notify, and commit", async () => {
    const { database, writer, pipeline } = await hardened("vector");
    const counter = await countNotifications(database);
    const sleeper = new pg.Client({ connectionString: database.url });
    await sleeper.connect();
    onTestFinished(() => sleeper.end());
    await sleeper.query("select pg_advisory_lock(embedd.lock_class('gate'), $1)", [pipeline]);
    await database.query(
      "create or replace function embedd.notify_limit() returns float8 language sql immutable as 'select 0::float8'",
    );
    await writer.query("insert into app.docs (id, body) values (1, 'one')");
    await database.query("update embedd.pipelines set paused = true");
    const { rows } = await database.query("select embedd.notify('x') as sent");
    expect(rows).toEqual([{ sent: false }]);
    expect(await counter.count()).toBe(0);
    expect((await database.query("select from app.docs")).rowCount).toBe(1);
  });
});
