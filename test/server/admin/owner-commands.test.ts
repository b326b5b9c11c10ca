import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { createRole } from "../../helpers/watched-table.js";
import { spawnCli } from "../../helpers/cli.js";

const db = useDatabase();
const columns = "id int primary key, body text, embedding vector(384), embedding_model text";
const embedd = (url: string, ...args: string[]) => spawnCli(args, { env: { DATABASE_URL: url } }).exited;

/** Watches a table of each role, with one dead row; both may manage their own. */
async function watchOwn(...roles: string[]): Promise<void> {
  for (const role of roles) {
    await db.query(`create schema ${role} authorization ${role};
      set role ${role};
      create table ${role}.docs (${columns});
      insert into ${role}.docs values (1, 'a'), (2, 'b');
      reset role;
      select embedd.grant_owner('${role}');
      select embedd.watch('${role}.docs', '{body}', existing => 'keep');
      insert into embedd.failures (pipeline_id, key, content_hash, attempts, next_attempt_at, dead, code, error)
      select id, '1', '', 5, now(), true, 'refused_input', 'rejected' from embedd.pipelines
      where relation = '${role}.docs'::regclass`);
  }
}

describeServer("a table's owner that did not migrate the schema", () => {
  it("repairs, pauses, retries and re-embeds its own table, and nobody else's", async () => {
    const owner = await createRole(db);
    const other = await createRole(db);
    await watchOwn(owner.role, other.role);
    const table = `${owner.role}.docs`;

    await db.query(`alter table ${table} disable trigger user`);
    // It cures the triggers, but not a failed row.
    expect(await embedd(owner.url, "repair", table, "--existing", "refresh")).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/^still wrong: \S+: 1 failed row; embedd failures$/m) as string,
    });
    for (const args of [["pause", table], ["resume", table], ["retry"]]) {
      const done = await embedd(owner.url, ...args);
      expect(done, `${args.join(" ")}: ${done.stderr}`).toMatchObject({ code: 0 });
    }
    const disabled = await db.query(
      "select from pg_trigger where tgrelid = $1::regclass and tgenabled = 'D'",
      [table],
    );
    expect(disabled.rowCount).toBe(0);
    // Without a table, it concerns the role's own.
    const failures = await db.query(
      "select p.relation::text from embedd.failures f join embedd.pipelines p on p.id = f.pipeline_id",
    );
    expect(failures.rows).toEqual([{ relation: `${other.role}.docs` }]);
    expect(await embedd(owner.url, "failures")).toMatchObject({ code: 0, stdout: "no failed rows\n" });

    for (const [command, args] of Object.entries({
      repair: [`${other.role}.docs`],
      pause: [`${other.role}.docs`],
      retry: ["--table", `${other.role}.docs`],
      reembed: ["--stop", "--table", `${other.role}.docs`],
    })) {
      await db.query(`grant usage on schema ${other.role} to ${owner.role}`);
      const refused = await embedd(owner.url, command, ...args);
      expect(refused, command).toMatchObject({
        code: 2,
        stderr: `embedd: role ${owner.role} does not own table ${other.role}.docs\n  try: log in as ${other.role}\n`,
      });
    }
  });

  it("asks for a refresh of its own table, and may stop it", async () => {
    const { role, url } = await createRole(db);
    await watchOwn(role);
    await db.query(`update ${role}.docs set embedding = array_fill(1, array[384])::vector, embedding_model = 'm';
      update embedd.pipelines set served_model = 'm' where relation = '${role}.docs'::regclass`);
    const asked = await embedd(url, "reembed", "--all", "--no-wait");
    expect(asked.stdout).toContain("docs.embedding: re-embedding all of 2 rows with m");
    const refreshing = await db.query(
      "select relation::text from embedd.pipelines where refresh_started_at is not null",
    );
    expect(refreshing.rows).toEqual([{ relation: `${role}.docs` }]);
    expect((await embedd(url, "reembed", "--stop")).stdout).toContain(`stopped; ${role}.docs has a gap`);
  });

  it("is told who can do the rest, and what to type", async () => {
    const { role, url } = await createRole(db);
    await db.query(`select embedd.grant_owner('${role}')`);
    const { rows } = await db.query<{ owner: string }>("select embedd.schema_owner() as owner");
    const owner = rows[0]?.owner ?? "";
    const refused = await embedd(url, "uninstall");
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(
      new RegExp(
        `^embedd: role ${role} may not do this, but role ${owner} may: permission denied .*\n` +
          ` {2}try: export DATABASE_URL='postgres://${owner}@`,
      ),
    );
  });
});

describeServer("a role without any rights", () => {
  it("is told by every command which role types what, and the cure works", async () => {
    const { role, url } = await createRole(db);
    const { rows } = await db.query<{ owner: string }>("select embedd.schema_owner() as owner");
    const owner = rows[0]?.owner ?? "";
    const commands = [
      ["status"],
      ["pause", "docs"],
      ["repair", "docs"],
      ["failures"],
      ["retry"],
      ["reembed"],
      ["uninstall"],
      ["run"],
    ];
    const refused = await Promise.all(commands.map((args) => embedd(url, ...args)));
    for (const [i, { code, stderr }] of refused.entries()) {
      expect(stderr, commands[i]?.join(" ")).toBe(
        `embedd: role ${role} has no rights in embedd's schema, which role ${owner} owns: permission denied for schema embedd\n` +
          `  try: embedd grant --owner ${role}  # as ${owner}: lets ${role} watch and manage the tables that it owns\n` +
          `  or:  embedd grant ${role}  # as ${owner}: lets ${role} run the worker\n`,
      );
      expect(code).toBe(2);
    }
    expect(await embedd(db.url, "grant", "--owner", role)).toMatchObject({ code: 0 });
    expect(await embedd(url, "failures")).toMatchObject({ code: 0 });
  });
});
