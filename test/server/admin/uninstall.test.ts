import { expect, it, onTestFinished } from "vitest";
import { createRole } from "../../helpers/watched-table.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import type { Database } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";

const db = useDatabase();

const columns = "id int primary key, body text, embedding vector(2), embedding_model text";

/** Runs a command on a database, and returns all it printed with its exit code. */
async function embedd({ url }: Database, ...args: string[]): Promise<{ code: number | null; out: string }> {
  const { code, stdout, stderr } = await spawnCli(args, { env: { DATABASE_URL: url } }).exited;
  return { code, out: `${stdout}${stderr}` };
}

async function migrated(): Promise<Database> {
  const database = await db.createMigratedDatabase();
  // Before the role that has privileges in it.
  onTestFinished(() => database.drop());
  return database;
}

const watchedDocs = `create schema app; create table app.docs (${columns});
  select embedd.watch('app.docs', '{body}')`;

describeServer("a watched table that was dropped", () => {
  it.each([
    ["its name", ["unwatch", "docs"]],
    ["its name with the schema", ["unwatch", "app.docs"]],
    ["the number of its pipeline", ["unwatch", "--pipeline", "2"]],
    ["the command that doctor prints", []],
  ])("is unwatched by %s", async (what, args) => {
    const { role } = await createRole(db);
    const database = await migrated();
    await database.query(`select embedd.grant_worker('${role}')`);
    await database.query(watchedDocs);
    await database.query("drop table app.docs");
    const doctor = await embedd(database, "doctor");
    const fix = /FAIL {2}app\.docs\.embedding: its table is gone\n {6}try: embedd (.*)/.exec(doctor.out)?.[1];
    expect(fix, doctor.out).toBe("unwatch app.docs");
    expect((await embedd(database, "status")).out).toContain("app.docs.embedding");
    const command = args.length > 0 ? args : (fix ?? "").split(" ");
    expect(await embedd(database, ...command), what).toMatchObject({ code: 0 });
    expect((await database.query("select from embedd.pipelines where relation_name = 'docs'")).rowCount).toBe(
      0,
    );
    const { rows } = await database.query("select has_schema_privilege($1, 'app', 'usage') as usage", [role]);
    expect(rows).toEqual([{ usage: false }]);
    expect(await embedd(database, "grant", role, "--revoke")).toMatchObject({ code: 0 });
  });

  it.each(["drop table app.docs", "drop schema app cascade", "alter table app.docs drop embedding cascade"])(
    "and had a worker's privileges does not hold up uninstall or grant --revoke: %s",
    async (damage) => {
      for (const command of ["revoke", "uninstall"]) {
        const { role } = await createRole(db);
        const database = await migrated();
        await database.query(`select embedd.grant_worker('${role}')`);
        await database.query(watchedDocs);
        await database.query(damage);
        if (command === "revoke")
          expect(await embedd(database, "grant", role, "--revoke")).toMatchObject({ code: 0 });
        expect(await embedd(database, "uninstall")).toMatchObject({ code: 0 });
        expect((await database.query("select to_regnamespace('embedd') as left")).rows).toEqual([
          { left: null },
        ]);
      }
    },
  );

  it.each([
    ["pause", 0],
    ["resume", 0],
    ["failures --table", 0],
    ["switch-model --abort", 2],
  ])("is still known by its name to embedd %s", async (command, code) => {
    const database = await migrated();
    await database.query(watchedDocs);
    await database.query("drop table app.docs");
    const exit = await embedd(database, ...command.split(" "), "app.docs");
    expect(exit, exit.out).toMatchObject({ code });
    expect(exit.out).not.toMatch(/there is no table|column reference|\d{5}/);
  });
});

describeServer("under a publication for all tables", () => {
  it("unwatch, grant --revoke, switch-model and uninstall work", async () => {
    const { role } = await createRole(db);
    const database = await migrated();
    await database.query(`create publication everything for all tables;
      select embedd.grant_worker('${role}')`);
    await database.query(watchedDocs);
    const { rows } = await database.query(`select c.relname
      from pg_class c
      where c.relnamespace in ('embedd'::regnamespace, 'graphile_migrate'::regnamespace)
        and c.relkind in ('r', 'p')
        and c.relreplident = 'd'
        and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)`);
    expect(rows).toEqual([]);
    await database.query(`update embedd.pipelines set model = 'old' where relation = 'app.docs'::regclass;
      select embedd.finish_switch(embedd.begin_switch('app.docs', 'embedding', 'new', 2, null, true), 10, false, true)`);
    expect(await embedd(database, "unwatch", "app.docs")).toMatchObject({ code: 0 });
    await database.query("select embedd.watch('app.docs', '{body}')");
    expect(await embedd(database, "grant", role, "--revoke")).toMatchObject({ code: 0 });
    expect(await embedd(database, "uninstall")).toMatchObject({ code: 0 });
  });
});
