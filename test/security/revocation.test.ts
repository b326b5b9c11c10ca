import { expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../helpers/database.js";
import type { Database } from "../helpers/database.js";
import { spawnCli } from "../helpers/cli.js";
import { createRole } from "../helpers/watched-table.js";

const db = useDatabase();

async function granted(): Promise<{ database: Database; role: string }> {
  const { role } = await createRole(db);
  const database = await db.createMigratedDatabase();
  onTestFinished(() => database.drop());
  await database.query(`
    create schema app;
    create table app.docs (id int primary key, title text, body text, embedding vector(2), embedding_model text);
    select embedd.watch('app.docs', '{title,body}');
    select embedd.grant_worker('${role}')`);
  return { database, role };
}

async function embedd(database: Database, command: string): Promise<{ code: number | null; out: string }> {
  const { code, stdout, stderr } = await spawnCli(command.split(" "), { env: { DATABASE_URL: database.url } })
    .exited;
  return { code, out: `${stdout}${stderr}` };
}

/** The privileges that a role was given by name, anywhere but in embedd's own schema. */
async function privileges({ database, role }: { database: Database; role: string }): Promise<string[]> {
  const { rows } = await database.query<{ privilege: string }>(
    `
    select format('%s on %s.%s', acl.privilege_type, a.attrelid::regclass, a.attname) as privilege
    from pg_attribute a, aclexplode(a.attacl) acl
    where acl.grantee = $1::regrole and not a.attisdropped
    union all
    select format('%s on %s', acl.privilege_type, c.oid::regclass)
    from pg_class c, aclexplode(c.relacl) acl
    where acl.grantee = $1::regrole
    union all
    select format('%s on schema %s', acl.privilege_type, n.nspname)
    from pg_namespace n, aclexplode(n.nspacl) acl
    where acl.grantee = $1::regrole
    order by 1`,
    [role],
  );
  return rows.map(({ privilege }) => privilege);
}

describeServer("what a table's owner did to it does not keep a worker's rights alive", () => {
  it.each([
    ["renamed a column", "alter table app.docs rename title to head"],
    [
      "renamed a column and gave its name to another",
      "alter table app.docs rename body to text; alter table app.docs add body text",
    ],
    [
      "dropped one column and renamed the others",
      `alter table app.docs drop title cascade; alter table app.docs rename body to text;
       alter table app.docs rename embedding to vec; alter table app.docs rename id to number`,
    ],
    ["renamed the schema", "alter schema app rename to application"],
    ["moved the table", "create schema other; alter table app.docs set schema other"],
    ["dropped the table", "drop table app.docs"],
    ["put a view in its place", "alter table app.docs rename to old; create view app.docs as select 1 as id"],
  ])("%s", async (_, damage) => {
    for (const command of ["grant ROLE --revoke", "uninstall"]) {
      const target = await granted();
      expect(await privileges(target)).toContain("UPDATE on app.docs.embedding");
      await target.database.query(damage);
      const { code, out } = await embedd(target.database, command.replace("ROLE", target.role));
      expect(code, out).toBe(0);
      expect(await privileges(target)).toEqual([]);
    }
  });
});

describeServer("what embedd did not grant", () => {
  it("is not revoked", async () => {
    const target = await granted();
    await target.database.query(`
      create view embedd.mine as select 1;
      grant select on embedd.mine to ${target.role};
      grant select (title) on app.docs to ${target.role} with grant option;
      grant delete on app.docs to ${target.role};
      grant create on schema app to ${target.role}`);
    expect(await embedd(target.database, `grant ${target.role} --revoke`)).toMatchObject({ code: 0 });
    expect(await privileges(target)).toEqual([
      "CREATE on schema app",
      "DELETE on app.docs",
      "SELECT on embedd.mine",
    ]);
  });
});

describeServer("what the current role may not revoke", () => {
  it("is reported, stays on record, and goes when the table's owner revokes it", async () => {
    const { role } = await createRole(db);
    const admin = await createRole(db);
    const database = await db.createDatabase();
    onTestFinished(() => database.drop());
    const { rows } = await database.query<{ name: string }>("select current_database() as name");
    const name = rows[0]?.name ?? "";
    await database.query(`create extension vector; grant create on database "${name}" to ${admin.role}`);
    const asAdmin = new URL(admin.url);
    asAdmin.pathname = `/${name}`;
    const run = async (...args: string[]) => spawnCli(args, { env: { DATABASE_URL: asAdmin.href } }).exited;
    expect(await run("migrate")).toMatchObject({ code: 0 });
    await database.query(`
      create table docs (id int primary key, body text, embedding vector(2), embedding_model text);
      select embedd.watch('docs', '{body}'), embedd.grant_worker('${role}')`);
    const { code, stdout, stderr } = await run("grant", role, "--revoke");
    expect(code).toBe(3);
    expect(stdout).toBe(`${role} can no longer run the worker\n`);
    expect(stderr).toContain(`${role} keeps what you may not revoke:\n`);
    expect(stderr).toContain("  UPDATE (embedding) on public.docs\n");
    expect(stderr).toContain(`try: embedd grant ${role} --revoke  # as the tables' owner or a superuser\n`);
    expect(await privileges({ database, role })).toContain("UPDATE on docs.embedding");
    expect((await database.query(`select embedd.revoke_worker('${role}')`)).rowCount).toBe(0);
    expect(await privileges({ database, role })).toEqual([]);
    await database.query(`drop owned by ${admin.role} cascade`);
  });
});
