import { onTestFinished } from "vitest";
import { spawnCli } from "./cli.js";
import type { Database, TestDatabase } from "./database.js";
import { connectWriter, createRole } from "./watched-table.js";

export interface Owner {
  role: string;
  /** Connects to the test's database as this role. */
  url: string;
}

const asRole = ({ url }: Database, role: string): string => {
  const address = new URL(url);
  address.username = role;
  return address.toString();
};

/** A database of its own, which goes before the roles that own something in it. */
export async function newDatabase(db: TestDatabase, roles: number): Promise<[Database, ...Owner[]]> {
  const names: string[] = [];
  for (let i = 0; i < roles; i++) names.push((await createRole(db)).role);
  const database = await db.createMigratedDatabase();
  onTestFinished(() => database.drop());
  return [database, ...names.map((role) => ({ role, url: asRole(database, role) }))];
}

export const embedd = (url: string, ...args: string[]) =>
  spawnCli(args, { env: { DATABASE_URL: url } }).exited;

/**
 * A table of an owner who attaches code in each way that a table allows. The code notes with whose rights it ran, and runs
 * `attack` with them.
 */
export async function hostileTable(
  database: Database,
  { role, url }: Owner,
  attack = "null",
): Promise<string> {
  const table = `${role}.docs`;
  await database.query(`create schema ${role} authorization ${role}`);
  const client = await connectWriter(url);
  await client.query(`
    set search_path = ${role}, public;
    grant usage on schema ${role} to public;
    create table ran (as_role text, what text, result text);
    grant insert on ran to public;
    create function attack(what text) returns boolean language plpgsql as $f$
    declare
      result text;
    begin
      begin
        execute $a$${attack}$a$ into result;
      exception when others then
        result := sqlerrm;
      end;
      insert into ${role}.ran values (current_user, what, result);
      return true;
    end $f$;
    create function always(what text) returns boolean language plpgsql immutable as
      $f$ begin return ${role}.attack(what); end $f$;
    create function on_write() returns trigger language plpgsql as
      $f$ begin perform ${role}.attack(tg_name); return new; end $f$;
    create type mood as enum ('glad', 'sad');
    create function mood_text(mood) returns text language plpgsql as
      $f$ begin perform ${role}.attack('cast'); return case $1 when 'glad' then 'glad' else 'sad' end; end $f$;
    create cast (mood as text) with function mood_text(mood);
    create function length_of(text) returns integer language plpgsql immutable as
      $f$ begin perform ${role}.attack('generated column'); return length($1); end $f$;
    create table docs (id int primary key, body text, mood mood, embedding vector(384), embedding_model text,
      size integer generated always as (length_of(body)) stored,
      constraint c check (always('check constraint')));
    create index on docs (id) where always('index predicate');
    create trigger before_update before update on docs for each row execute function on_write();
    create constraint trigger deferred after update on docs initially deferred for each row execute function on_write();
    insert into docs values (1, 'one', 'glad'), (2, 'two', 'sad');
    alter table docs enable row level security;
    create policy everybody on docs using (always('policy'));
    truncate ran`);
  return table;
}

/** What the owner's code noted, without what its owner did. */
export async function ranAs(database: Database, owner: Owner): Promise<unknown[]> {
  const { rows } = await database.query<{ note: string }>(
    `select distinct format('%s as %s: %s', what, as_role, result) as note from ${owner.role}.ran where as_role <> $1 order by 1`,
    [owner.role],
  );
  return rows.map(({ note }) => note);
}

/** As a superuser, with whose rights the code of the table's owner then runs. */
export const vectors = async (database: Database, table: string): Promise<number> =>
  (await database.query(`select from ${table} where embedding is not null`)).rowCount ?? 0;
