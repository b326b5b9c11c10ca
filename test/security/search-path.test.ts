import { expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../helpers/database.js";
import { spawnCli } from "../helpers/cli.js";
import { hashProvider } from "../helpers/providers.js";
import { waitFor } from "../helpers/wait.js";
import { createRole, watchTable } from "../helpers/watched-table.js";
import { startTestWorker } from "../helpers/worker.js";

const db = useDatabase();

/** Resolves what its caller's path says, so it may not have a path of its own. Its one statement has full names. */
const WITHOUT_PATH = ["caller_path"];

it("every function of embedd has a search path of its own", async () => {
  const { rows } = await db.query<{ name: string; config: string[] | null }>(`
    select proname as name, proconfig as config from pg_proc
    where pronamespace = 'embedd'::regnamespace
    order by 1`);
  expect(rows.length).toBeGreaterThan(100);
  const without = rows.filter(({ config }) => !config?.includes("search_path=pg_catalog, pg_temp"));
  expect(without.map(({ name }) => name)).toEqual(WITHOUT_PATH);
});

/** Functions and operators that PostgreSQL prefers to its own, because they take these types without a conversion. */
const planted = (role: string): string => {
  const body = (result: string): string => `
    begin
      if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
        execute 'alter role ${role} superuser';
      end if;
      return ${result};
    end`;
  const compare = (symbol: string, left: string, right: string): string => `
    create function public.f_${left}_${right}_${symbol === "=" ? "eq" : "ne"}(${left}, ${right}) returns boolean
      language plpgsql as $$${body(`$1::oid operator(pg_catalog.${symbol}) $2::oid`)}$$;
    create operator public.${symbol} (
      leftarg = ${left}, rightarg = ${right}, function = public.f_${left}_${right}_${symbol === "=" ? "eq" : "ne"});`;
  return `
    ${compare("=", "regclass", "oid")} ${compare("=", "oid", "regclass")}
    ${compare("<>", "regclass", "oid")} ${compare("=", "oid", "regnamespace")}
    create function public.quote_ident(name) returns text language plpgsql as
      $$${body("pg_catalog.quote_ident($1::text)")}$$;
    create function public.format(text, name) returns text language plpgsql as
      $$${body("pg_catalog.format($1, $2::text)")}$$;
    create function public.format(text, name, name) returns text language plpgsql as
      $$${body("pg_catalog.format($1, $2::text, $3::text)")}$$;
    create function public.format(text, regclass) returns text language plpgsql as
      $$${body("pg_catalog.format($1, $2::text)")}$$;
    create function public.format(text, integer) returns text language plpgsql as
      $$${body("pg_catalog.format($1, $2::text)")}$$;
    create function public.left(name, integer) returns text language plpgsql as
      $$${body("pg_catalog.left($1::text, $2)")}$$;
    create function public.pg_relation_size(oid) returns bigint language plpgsql as
      $$${body("pg_catalog.pg_relation_size($1::regclass)")}$$;
    create function public.format_type(oid, integer, text default '') returns text language plpgsql as
      $$${body("pg_catalog.format_type($1, $2)")}$$;`;
};

describeServer("a role that may create functions in the search path", () => {
  it("runs none of them with the rights of whoever calls embedd", async () => {
    const { role } = await createRole(db);
    const database = await db.createDatabase();
    onTestFinished(() => database.drop());
    await database.query(`grant create on schema public to ${role}`);
    await database.query(`set role ${role}; ${planted(role)} reset role`);
    await database.query("create table docs (id bigint primary key, body text)");
    await database.query("insert into docs values (1, 'bread'), (2, null)");
    const escalated = async (): Promise<boolean | undefined> =>
      (
        await database.query<{ rolsuper: boolean }>("select rolsuper from pg_roles where rolname = $1", [
          role,
        ])
      ).rows[0]?.rolsuper;
    for (const command of [
      "migrate",
      "watch docs --content body --create-columns",
      "status",
      "estimate",
      "doctor",
      "run --once",
      "search bread --table docs",
      "pause docs",
      "resume docs",
      "repair docs",
      "reembed --table docs",
      "failures",
      "retry --table docs",
      "watch docs --content id,body --existing keep",
      "status --json",
      "unwatch docs",
      "uninstall",
    ]) {
      const { code, stderr } = await spawnCli(command.split(" "), { env: { DATABASE_URL: database.url } })
        .exited;
      expect([0, 3], `${command}: ${stderr}`).toContain(code);
      expect(await escalated(), command).toBe(false);
    }
  });

  it("runs none of them when embedd is called from SQL", async () => {
    const { role } = await createRole(db);
    const database = await db.createMigratedDatabase();
    onTestFinished(() => database.drop());
    await database.query(`grant create on schema public to ${role}`);
    await database.query(`set role ${role}; ${planted(role)} reset role`);
    await database.query(`
      create table docs (id bigint primary key, body text);
      select embedd.add_columns('docs', 'embedding', null, 384);
      select embedd.watch('docs', '{body}');
      select * from embedd.status;
      select * from embedd.model_of('docs');
      select embedd.repair('docs'), embedd.set_paused('docs', null, true);
      insert into docs values (1, 'bread');
      update docs set body = 'rye';
      select embedd.grant_worker('${role}'), embedd.revoke_worker('${role}');
      select embedd.unwatch('docs')`);
    const { rows } = await database.query("select rolsuper from pg_roles where rolname = $1", [role]);
    expect(rows).toEqual([{ rolsuper: false }]);
  });
});

describeServer("embedd's own search path", () => {
  it("does not change which table a name means", async () => {
    await db.query(`
      create schema other;
      create table other.named (id int primary key, body text, embedding vector(2), embedding_model text);
      create table named (id int primary key, body text, embedding vector(2), embedding_model text)`);
    await db.query(
      "begin; set local search_path = other, public; select embedd.watch('named', '{body}'); commit",
    );
    const { rows } = await db.query(
      "select relation_schema as schema from embedd.pipelines where relation_name = 'named'",
    );
    expect(rows).toEqual([{ schema: "other" }]);
    await db.query("select embedd.unwatch('other.named'); drop schema other cascade; drop table named");
  });

  it("is not the one of a table's triggers", async () => {
    await startTestWorker(db, hashProvider());
    // The name in the trigger's function has no schema.
    await watchTable(db, {
      relation: "audited",
      ddl: `
        create table audit (id int, path text);
        create table audited (id int primary key, body text, embedding vector(384), embedding_model text);
        create function note() returns trigger language plpgsql as
          $$ begin insert into audit values (new.id, current_setting('search_path')); return new; end $$;
        create trigger noted after update on audited for each row execute function note()`,
    });
    await db.query("insert into audited values (1, 'bread')");
    await waitFor(
      async () => (await db.query("select from audited where embedding is not null")).rowCount === 1,
      {
        timeoutMs: 30_000,
        what: "the vector",
      },
    );
    const { rows } = await db.query("select path, current_setting('search_path') as usual from audit");
    expect(rows).toEqual([{ path: '"$user", public', usual: '"$user", public' }]);
  });
});
