import { expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../helpers/database.js";
import type { Database } from "../helpers/database.js";
import { spawnCli } from "../helpers/cli.js";
import { createRole } from "../helpers/watched-table.js";

const db = useDatabase();

/** A function that makes the role a superuser, if a superuser calls it. */
const evil = (role: string, name: string): string => `
  create function ${name}() returns trigger language plpgsql as $$
  begin
    if (select rolsuper from pg_roles where rolname = current_user) then
      execute 'alter role ${role} superuser';
    end if;
    return new;
  end $$;`;

/** A database in which a stranger may create schemas and made `sql`. */
async function squatted(sql: (role: string) => string): Promise<{ database: Database; role: string }> {
  const { role } = await createRole(db);
  const database = await db.createDatabase();
  onTestFinished(() => database.drop());
  const { rows } = await database.query<{ name: string }>("select current_database() as name");
  await database.query(`grant create on database "${rows[0]?.name ?? ""}" to ${role}`);
  await database.query(`set role ${role}; ${sql(role)}; reset role`);
  return { database, role };
}

async function isSuperuser({
  database,
  role,
}: {
  database: Database;
  role: string;
}): Promise<boolean | undefined> {
  const { rows } = await database.query<{ rolsuper: boolean }>(
    "select rolsuper from pg_roles where rolname = $1",
    [role],
  );
  return rows[0]?.rolsuper;
}

async function embedd(database: Database, command: string): Promise<{ code: number | null; stderr: string }> {
  const { code, stderr } = await spawnCli(command.split(" "), { env: { DATABASE_URL: database.url } }).exited;
  return { code, stderr };
}

describeServer("a schema that a stranger made before embedd was installed", () => {
  it.each([
    [
      "schema graphile_migrate",
      (role: string) => `
        create schema graphile_migrate;
        create table graphile_migrate.migrations (
          hash text primary key, previous_hash text, filename text, date timestamptz default now());
        grant all on schema graphile_migrate to public;
        grant all on graphile_migrate.migrations to public;
        ${evil(role, "graphile_migrate.grab")}
        create trigger grab before insert on graphile_migrate.migrations
          for each row execute function graphile_migrate.grab()`,
    ],
    ["schema embedd", (role: string) => `create schema embedd; ${evil(role, "embedd.grab")}`],
  ])("is refused by migrate, and left as it was: %s", async (name, sql) => {
    const squat = await squatted(sql);
    const before = (await squat.database.query("select oid from pg_class")).rowCount;
    const { code, stderr } = await embedd(squat.database, "migrate");
    expect({ code, stderr }).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(`${name} belongs to role ${squat.role}`) as string,
    });
    expect(stderr).toMatch(/try: .*drop what it made/);
    expect(await isSuperuser(squat)).toBe(false);
    expect((await squat.database.query("select oid from pg_class")).rowCount).toBe(before);
  });

  it("is refused by migrate if only something in it is the stranger's", async () => {
    const { role } = await createRole(db);
    const database = await db.createDatabase();
    onTestFinished(() => database.drop());
    await database.query(`create schema graphile_migrate; grant all on schema graphile_migrate to ${role}`);
    await database.query(
      `set role ${role}; create table graphile_migrate.migrations (hash text, filename text); reset role`,
    );
    expect(await embedd(database, "migrate")).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(`table graphile_migrate.migrations belongs to role ${role}`) as string,
    });
  });

  it.each(["status", "doctor", "watch docs --content body", "uninstall", "run --once", "failures"])(
    "has no function that a superuser's command calls: %s",
    async (command) => {
      const squat = await squatted(
        (role) => `
          create schema embedd;
          create table embedd.pipelines (relation regclass);
          create function embedd.resolve(text) returns regclass language plpgsql as $$
          begin execute 'alter role ${role} superuser'; return 'docs'; end $$;
          create view embedd.status as select embedd.resolve('docs')`,
      );
      await squat.database.query("create table docs (id int primary key, body text)");
      const { code, stderr } = await embedd(squat.database, command);
      expect(stderr).toContain(`schema embedd belongs to role ${squat.role}`);
      expect(code).not.toBe(0);
      expect(await isSuperuser(squat)).toBe(false);
    },
  );
});

describeServer("a database that is not the superuser's", () => {
  it("is migrated and served by the role that owns the schema", async () => {
    const { role, url } = await createRole(db);
    const database = await db.createDatabase();
    onTestFinished(() => database.drop());
    await database.query("create extension vector");
    const { rows } = await database.query<{ name: string }>("select current_database() as name");
    const name = rows[0]?.name ?? "";
    await database.query(`grant create on database "${name}" to ${role}`);
    const own = new URL(url);
    own.pathname = `/${name}`;
    for (const command of ["migrate", "status", "doctor"]) {
      const { code, stderr } = await spawnCli([command], { env: { DATABASE_URL: own.href } }).exited;
      expect(code, stderr).toBe(0);
    }
    await database.query(`drop owned by ${role}`);
  });
});
