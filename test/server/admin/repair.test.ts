import { afterEach, expect, it, onTestFinished } from "vitest";
import { readStatus } from "#embedd/admin/status.sql.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { runProgram, temporaryFolder } from "../../helpers/programs.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import {
  connectWriter,
  createRole,
  expectVectors,
  waitUntilServed,
  watchTable,
} from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";
import { join } from "node:path";

const db = useDatabase();

// The workers look at all pipelines of the database, again and again.
afterEach(async () => {
  await db.query("delete from embedd.pipelines");
});

const embedd = async (...args: string[]) => {
  const exit = await spawnCli(args, { env: { DATABASE_URL: db.url } }).exited;
  return { ...exit, out: `${exit.stdout}${exit.stderr}` };
};

const startWorker = (url = db.url) =>
  startTestWorker(db, hashProvider(), { pollIntervalMs: 500, databaseUrl: url });

/** Waits until embedd.status shows an error, or none. */
function waitForError(pipeline: number, pattern: RegExp | null): Promise<unknown> {
  return waitFor(
    async () => {
      const { rows } = await db.query<{ error: string | null }>(
        "select error from embedd.status where pipeline_id = $1",
        [pipeline],
      );
      const error = rows[0]?.error ?? null;
      return pattern === null ? error === null : error !== null && pattern.test(error);
    },
    { what: `error ${String(pattern)} of pipeline ${pipeline}` },
  );
}

/** Watches a new table, which no worker looks at. @returns its pipeline */
async function watchUnserved(relation: string): Promise<number> {
  await db.query(
    `create table ${relation} (id int primary key, body text, embedding vector(384), embedding_model text)`,
  );
  const { rows } = await db.query<{ id: number }>("select embedd.watch($1, '{body}') as id", [relation]);
  return rows[0]?.id ?? 0;
}

/** Waits until a refresh has reached every row; old vectors serve until then. */
function waitForRefresh(pipeline: number): Promise<unknown> {
  return waitFor(
    async () => {
      const { rows } = await db.query<{ refreshing: boolean }>(
        "select refreshing from embedd.status where pipeline_id = $1",
        [pipeline],
      );
      return rows[0]?.refreshing === false;
    },
    { what: `the refresh of pipeline ${pipeline}` },
  );
}

describeServer("a table whose changes went unnoticed", () => {
  it.each([
    ["triggers disabled", "alter table NAME disable trigger user", "select", /triggers are disabled/],
    [
      "a trigger disabled for a moment",
      "alter table NAME disable trigger zzz_embedd_ID__before_edit",
      "alter table NAME enable always trigger zzz_embedd_ID__before_edit",
      /triggers are disabled: before_edit/,
    ],
    [
      "triggers disabled and enabled between two looks",
      "begin; alter table NAME disable trigger user; alter table NAME enable trigger user; commit",
      "select",
      /triggers were disabled: before_edit, before_unread/,
    ],
    [
      "a trigger disabled for a moment between two looks",
      `begin;
       alter table NAME disable trigger zzz_embedd_ID__before_edit;
       update NAME set body = 'unseen';
       alter table NAME enable always trigger zzz_embedd_ID__before_edit;
       commit`,
      "select",
      /triggers were altered.*: \w+; embedd repair/,
    ],
    [
      "a trigger dropped and created again between two looks",
      `do $$
       declare
         definition text := (select pg_get_triggerdef(oid) from pg_trigger
           where tgrelid = 'NAME'::regclass and tgname = 'zzz_embedd_ID__before_save');
       begin
         drop trigger zzz_embedd_ID__before_save on NAME;
         execute definition;
       end $$`,
      "select",
      /triggers were altered.*: \w+; embedd repair/,
    ],
    [
      "a trigger dropped",
      "drop trigger zzz_embedd_ID__before_save on NAME",
      "select",
      /triggers are missing: before_save/,
    ],
    [
      "its embedding column dropped and added again",
      "alter table NAME drop embedding cascade, add embedding vector(384)",
      "select",
      /column embedding was dropped and added again/,
    ],
    [
      "its content column dropped and added again",
      "alter table NAME drop body cascade, add body text",
      "select",
      /column body was dropped and added again/,
    ],
  ])("with %s says so until somebody repairs it", async (what, damage, undo, message) => {
    const relation = what.replaceAll(" ", "_");
    const worker = await startWorker();
    const pipeline = await watchTable(db, { relation });
    const run = (sql: string) =>
      db.query(sql.replaceAll("NAME", relation).replaceAll("ID", String(pipeline)));
    await run("insert into NAME (id, body) values (1, 'one')");
    await expectVectors(db, relation, { 1: "one" });

    await run(damage);
    await waitForError(pipeline, message);
    await waitFor(
      async () =>
        (await db.query(`select from embedd.pipelines where id = ${pipeline} and gap is not null`))
          .rowCount === 1,
      { what: "the worker to record the gap" },
    );
    await run(
      "update NAME set body = 'two', embedding = array_fill(0.5, array[384])::vector, embedding_model = 'hash'",
    );
    await run(undo);
    await worker.idle();
    await waitForError(pipeline, /vectors may belong to earlier texts/);
    const doctor = await embedd("doctor");
    expect(doctor).toMatchObject({ code: 3 });
    expect(doctor.out).toContain(`try: embedd repair ${relation} --existing refresh  # or keep`);

    expect(await embedd("repair", relation)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("--existing") as string,
    });
    expect(await embedd("repair", relation, "--existing", "refresh")).toMatchObject({ code: 0 });
    await waitForRefresh(pipeline);
    await expectVectors(db, relation, { 1: "two" });
    await run("update NAME set body = 'three'");
    await expectVectors(db, relation, { 1: "three" });
    await waitForError(pipeline, null);
  });

  it.each([
    ["its row of pg_trigger is rewritten", "vacuum (full, freeze) pg_trigger"],
    [
      "it is moved and renamed",
      "create schema far; alter table NAME set schema far; alter table far.NAME set schema public",
    ],
    ["a column is renamed", "alter table NAME rename body to text; alter table NAME rename text to body"],
    ["a trigger is enabled as it is", "alter table NAME enable always trigger zzz_embedd_ID__before_edit"],
    [
      "other triggers are altered",
      "alter table NAME disable trigger zzz_embedd_ID__after_insert; alter table NAME enable trigger zzz_embedd_ID__after_insert",
    ],
  ])("needs no repair where no edit can have been missed: %s", async (what, sql) => {
    const relation = what.replaceAll(/\W/g, "_");
    const pipeline = await watchUnserved(relation);
    await db.query(`insert into ${relation} values (1, 'one', array_fill(0.5, array[384])::vector, 'hash')`);
    for (const statement of sql.split("; "))
      await db.query(statement.replaceAll("NAME", relation).replaceAll("ID", String(pipeline)));
    await db.query("select embedd.follow_names()");
    const [status] = await readStatus(db.pool, [pipeline]);
    expect(status).toMatchObject({ gap: null, error: null });
  });

  it("is not trusted again before a repair, also where a column is renamed meanwhile", async () => {
    const pipeline = await watchUnserved("altered");
    await db.query(`insert into altered values (1, 'one', array_fill(0.5, array[384])::vector, 'hash');
      alter table altered disable trigger zzz_embedd_${pipeline}__before_edit;
      alter table altered enable always trigger zzz_embedd_${pipeline}__before_edit;
      alter table altered rename body to text;
      select embedd.follow_names()`);
    const gap = async () => (await readStatus(db.pool, [pipeline]))[0]?.gap;
    expect(await gap()).toMatch(/triggers were altered/);
    await db.query(`select embedd.request_reembed('{${pipeline}}', 'all')`);
    expect(await gap()).toBeNull();
  });

  it("is reported while no worker runs, and so is a swapped one", async () => {
    const { query, url } = await db.createMigratedDatabase();
    const status = async () => {
      const { code, stdout } = await spawnCli(["status"], { env: { DATABASE_URL: url } }).exited;
      return `${code} ${stdout}`;
    };
    await query(`create table docs (id int primary key, body text, embedding vector(384), embedding_model text);
      insert into docs values (1, 'one', array_fill(0.5, array[384])::vector, 'hash');
      select embedd.watch('docs', '{body}', existing => 'keep')`);
    expect(await status()).toMatch(/^0 /);
    await query("alter table docs disable trigger user");
    expect(await status()).toMatch(
      /^3 [^]*error .*triggers are disabled: .*\n +try: embedd repair public\.docs/,
    );
    await query("select embedd.repair('docs', existing => 'keep')");
    expect(await status()).toMatch(/^0 /);
    await query("alter table docs drop body cascade");
    expect(await status()).toMatch(/^3 [^]*gone: body; add it again, then: embedd repair public\.docs/);
    await query("alter table docs add body text; select embedd.repair('docs', existing => 'keep')");
    expect(await status()).toMatch(/^0 /);
    await query("create table fresh (like docs including all)");
    await query("alter table docs rename to docs_old; alter table fresh rename to docs");
    expect(await status()).toMatch(/^3 [^]*error .*it is called public\.docs_old now/);
  });

  it("says so if only a partition's triggers were disabled, and gets its index back on later partitions", async () => {
    const { query, url } = await db.createMigratedDatabase();
    const run = async (...args: string[]) => {
      const { code, stdout, stderr } = await spawnCli(args, { env: { DATABASE_URL: url } }).exited;
      return `${code} ${stdout}${stderr}`;
    };
    await query(`
      create table docs (tenant int, id int, body text, embedding vector(384), embedding_model text,
        primary key (tenant, id)) partition by list (tenant);
      create table docs_1 partition of docs for values in (1) partition by list (id);
      create table docs_1_1 partition of docs_1 for values in (1);
      insert into docs values (1, 1, 'one', array_fill(0.5, array[384])::vector, 'hash')`);
    expect(await run("watch", "docs", "--content", "body", "--existing", "keep")).toMatch(/^0 /);
    await query("create table docs_2 partition of docs for values in (2)");
    expect(await run("status")).toMatch(/^0 /);
    await query("alter table docs_1_1 disable trigger user");
    expect(await run("status")).toMatch(/^3 [^]*triggers are disabled: .*before_edit of partition docs_1_1/);
    await query("alter table docs_1_1 enable trigger user");
    expect(await run("status")).toMatch(
      /^3 [^]*triggers were disabled: before_edit of partition docs_1_1, before_unread of partition docs_1_1\n +try: /,
    );
    expect(await run("repair", "docs", "--existing", "keep")).toMatch(/^0 /);
    expect(await run("status")).toMatch(/^0 /);
    const { rows } = await query(`select count(*)::integer as count, bool_and(indisvalid) as valid
      from pg_index where indrelid in ('docs'::regclass, 'docs_1'::regclass, 'docs_1_1'::regclass, 'docs_2'::regclass)
        and not indisprimary`);
    expect(rows).toEqual([{ count: 4, valid: true }]);
  });

  it("without its index says so, and gets it back without a question", async () => {
    await startWorker();
    const pipeline = await watchTable(db, { relation: "unindexed" });
    await db.query(`update embedd.pipelines set created_at = now() - interval '1 h' where id = ${pipeline}`);
    await db.query(`drop index embedd_${pipeline}_pending`);
    await waitForError(pipeline, /index of pending rows is missing; embedd repair public.unindexed/);
    expect(await embedd("repair", "unindexed")).toMatchObject({ code: 0 });
    await waitForError(pipeline, null);
  });
});

describeServer("a repair", () => {
  it("names what it does not cure, and exits with 3", async () => {
    await db.query(`
      create table mixed (id int primary key, body text, embedding vector(384), embedding_model text);
      insert into mixed values (1, 'one', array_fill(0.5, array[384])::vector, 'hash');
      select embedd.watch('mixed', '{body}', existing => 'keep');
      alter table mixed disable trigger user;
      create function late() returns trigger language plpgsql as 'begin return new; end';
      create trigger zzzz_late before update on mixed for each row execute function late()`);
    const exit = await embedd("repair", "mixed", "--existing", "keep");
    expect(exit).toMatchObject({
      code: 3,
      stdout: "repaired mixed (1 pipeline)\n",
      stderr: expect.stringMatching(
        /still wrong: \S*mixed.embedding: a BEFORE UPDATE trigger runs after .* zzzz_late; ALTER TRIGGER/,
      ) as string,
    });
    await db.query("alter trigger zzzz_late on mixed rename to a_late");
    expect(await embedd("repair", "mixed")).toMatchObject({ code: 0 });
  });

  it("ignores what a worker says that looked before the repair", async () => {
    await db.query(`
      create table overtaken (id int primary key, body text, embedding vector(384), embedding_model text);
      select embedd.watch('overtaken', '{body}');
      create function overtake() returns trigger language plpgsql as
        $$ begin new.error := 'what a worker saw'; return new; end $$;
      create trigger overtake before update on embedd.pipelines for each row execute function overtake();
      alter table overtaken disable trigger user`);
    onTestFinished(async () => {
      await db.query("drop function if exists overtake() cascade");
    });
    expect(await embedd("repair", "overtaken", "--existing", "keep")).toMatchObject({ code: 0 });
    const { rows } = await db.query(
      "select error from embedd.pipelines where relation = 'overtaken'::regclass",
    );
    expect(rows).toEqual([{ error: "what a worker saw" }]);
  });

  it("wakes workers for rows that became pending without triggers", async () => {
    await startTestWorker(db, hashProvider());
    const pipeline = await watchTable(db, { relation: "unnoticed" });
    await waitUntilServed(db, pipeline);
    await db.query(
      `alter table unnoticed disable trigger user; insert into unnoticed (id, body) values (1, 'one')`,
    );
    expect(await embedd("repair", "unnoticed")).toMatchObject({ code: 0 });
    await expectVectors(db, "unnoticed", { 1: "one" });
  });
});

describeServer("a table that", () => {
  it("was dropped and restored from its dump is reported, and served again after a repair", async () => {
    const worker = await startWorker();
    const pipeline = await watchTable(db, { relation: "restored" });
    await db.query("insert into restored (id, body) values (1, 'one')");
    await expectVectors(db, "restored", { 1: "one" });
    const file = join(await temporaryFolder(), "restored.dump");
    await runProgram("pg_dump", ["-Fc", "-t", "restored", "-f", file, db.url]);
    await db.query("drop table restored");
    await waitForError(pipeline, /its table is gone; embedd unwatch public.restored/);
    await runProgram("pg_restore", ["--exit-on-error", "-d", db.url, file]);
    await waitForError(
      pipeline,
      /another table has replaced it under the same name; embedd repair public.restored/,
    );
    await db.query("insert into restored (id, body) values (2, 'two')");
    await worker.idle();
    expect((await embedd("doctor")).out).toMatch(
      /FAIL {2}public.restored.embedding: another table has replaced it/,
    );
    expect(await embedd("repair", "restored")).toMatchObject({ code: 2 });
    expect(await embedd("repair", "restored", "--existing", "keep")).toMatchObject({ code: 0 });
    await waitForError(pipeline, null);
    await expectVectors(db, "restored", { 1: "one", 2: "two" });
    expect((await embedd("doctor")).out).not.toMatch(/FAIL .*restored/);
  });

  it("was dropped and created again can be watched again", async () => {
    const worker = await startWorker();
    const pipeline = await watchTable(db, { relation: "again" });
    await db.query("drop table again");
    await waitForError(pipeline, /its table is gone/);
    await watchTable(db, { relation: "again" });
    await db.query("insert into again (id, body) values (1, 'one')");
    await expectVectors(db, "again", { 1: "one" });
    expect((await db.query("select from embedd.pipelines where relation_name = 'again'")).rowCount).toBe(1);
    await worker.idle();
  });

  it("was swapped with another by renames is reported; repair serves the one that is named", async () => {
    await startWorker();
    const pipeline = await watchTable(db, { relation: "live" });
    await db.query("insert into live (id, body) values (1, 'old')");
    await expectVectors(db, "live", { 1: "old" });
    await db.query(`create table fresh (id int primary key, body text, embedding vector(384), embedding_model text);
      insert into fresh (id, body) values (1, 'new');
      begin; alter table live rename to live_old; alter table fresh rename to live; commit`);
    await waitForError(pipeline, /it is called public.live_old now, and another table has its name/);
    expect(await embedd("repair", "live")).toMatchObject({ code: 0 });
    await waitForError(pipeline, null);
    await expectVectors(db, "live", { 1: "new" });
    expect(
      (await db.query("select from pg_trigger where tgrelid = 'live_old'::regclass and not tgisinternal"))
        .rowCount,
    ).toBe(0);
  });

  it("was swapped can also be followed under its new name", async () => {
    await startWorker();
    const pipeline = await watchTable(db, { relation: "moving" });
    await db.query("insert into moving (id, body) values (1, 'one')");
    await expectVectors(db, "moving", { 1: "one" });
    await db.query("begin; alter table moving rename to moved_away; create table moving (id int); commit");
    await waitForError(pipeline, /to follow the old table: embedd repair public.moved_away --existing keep/);
    expect(await embedd("repair", "public.moved_away", "--existing", "keep")).toMatchObject({ code: 0 });
    await waitForError(pipeline, null);
    await db.query("insert into moved_away (id, body) values (2, 'two')");
    await expectVectors(db, "moved_away", { 1: "one", 2: "two" });
  });

  it("was swapped stays reported while tables are renamed on, until it is repaired or has its name back", async () => {
    await startWorker();
    const pipeline = await watchTable(db, { relation: "turned" });
    await db.query("insert into turned (id, body) values (1, 'one')");
    await expectVectors(db, "turned", { 1: "one" });
    await db.query(
      "begin; alter table turned rename to turned_old; create table turned (id int, body text); commit",
    );
    await waitForError(pipeline, /it is called public.turned_old now, and another table has its name/);
    const lookedAt = async () =>
      (await db.query(`select from embedd.pipelines where id = ${pipeline} and replaced_by is not null`))
        .rowCount === 1;
    await waitFor(lookedAt, { timeoutMs: 15_000, what: "the worker to see the swap" });
    await db.query("alter table turned rename to turned_x");
    await waitForError(
      pipeline,
      /it is called public.turned_old now, and public.turned_x had its name meanwhile/,
    );
    await db.query("alter table turned_old rename column body to text; drop table turned_x");
    const gone = /it is called public.turned_old now, and a table that is gone had its name meanwhile/;
    await waitForError(pipeline, gone);
    const { out, code } = await embedd("doctor");
    expect(code).toBe(3);
    expect(out).toMatch(/try: embedd repair public.turned_old --existing keep/);
    await db.query("alter table turned_old rename to turned");
    await waitForError(pipeline, null);
    await db.query("begin; alter table turned rename to turned_2; create table turned (id int); commit");
    await waitFor(lookedAt, { timeoutMs: 15_000, what: "the worker to see the second swap" });
    await db.query("drop table turned");
    await waitForError(pipeline, /it is called public.turned_2 now, and a table that is gone/);
    expect(await embedd("repair", "public.turned_2", "--existing", "keep")).toMatchObject({ code: 0 });
    await waitForError(pipeline, null);
    await db.query("update turned_2 set text = 'two'");
    await expectVectors(db, "turned_2", { 1: "two" });
  });

  it.each([
    ["renamed", "alter table ID rename to ID_old", /it is called public.\w+_old now, and another table/],
    ["dropped", "drop table ID", /^another table/],
  ])(
    "was %s gives way by its pipeline's number if a watched table has its name",
    async (how, ddl, problem) => {
      const name = `${how}_away`;
      await db.query(`
      create table ${name} (id int primary key, body text, embedding vector(384), embedding_model text);
      create table ${name}_next (like ${name} including all);
      select embedd.watch('${name}', '{body}'), embedd.watch('${name}_next', '{body}')`);
      const { rows } = await db.query<{ id: number }>(
        "select id from embedd.pipelines where relation = $1::regclass",
        [name],
      );
      const id = rows[0]?.id ?? 0;
      await db.query(`${ddl.replaceAll("ID", name)}; alter table ${name}_next rename to ${name}`);
      await waitForError(id, problem);
      const advice = new RegExp(`has its name and is watched too; embedd unwatch --pipeline ${id}\\b`);
      await waitForError(id, advice);
      expect(await embedd("unwatch", "--pipeline", String(id))).toMatchObject({ code: 0 });
      const status = await readStatus(db.pool);
      expect(status.filter(({ relation }) => relation.startsWith(name))).toMatchObject([
        { relation: name, error: null },
      ]);
    },
  );

  it("was swapped with a watched one can still be followed", async () => {
    await db.query(`
      create table kept (id int primary key, body text, embedding vector(384), embedding_model text);
      create table kept_next (like kept including all);
      select embedd.watch('kept', '{body}'), embedd.watch('kept_next', '{body}');
      alter table kept rename to kept_old; alter table kept_next rename to kept`);
    expect(await embedd("repair", "public.kept_old", "--existing", "keep")).toMatchObject({ code: 0 });
    const status = await readStatus(db.pool);
    expect(status.filter(({ relation }) => relation.startsWith("kept")).map(({ error }) => error)).toEqual([
      null,
      null,
    ]);
  });

  it("gets a trigger that runs after embedd's says what to type", async () => {
    await startWorker();
    const pipeline = await watchTable(db, { relation: "triggered" });
    await db.query(`
      create function unseen() returns trigger language plpgsql as 'begin return new; end';
      create trigger zzzz before update on triggered for each row execute function unseen()`);
    const advice = /ALTER TRIGGER zzzz ON public.triggered RENAME TO a_name_that_sorts_before_zzz_embedd;/;
    await waitForError(pipeline, advice);
    const { out } = await embedd("doctor");
    expect(/triggered.embedding: .*\n {6}try: (.*)/.exec(out)?.[1]).toMatch(advice);
    await db.query(advice.source);
    await waitForError(pipeline, null);
  });

  it.each<[string, string, RegExp]>([
    [
      "a trigger that runs after embedd's",
      `create function unordered() returns trigger language plpgsql as 'begin return new; end';
       create trigger zzzz before update on silent for each row execute function unordered()`,
      /runs after embedd's .*ALTER TRIGGER zzzz ON public.silent RENAME/,
    ],
    [
      "no unique key any more",
      "alter table silent drop constraint silent_pkey",
      /\(id\) is no longer a unique key/,
    ],
    [
      "an embedding column of another type",
      "alter table silent drop column embedding cascade, add column embedding real[]",
      /column embedding is no longer vector/,
    ],
  ])("has %s, and embedd status says so while no worker runs", async (_, ddl, problem) => {
    await db.query(`create table silent (id int primary key, body text, embedding vector(384), embedding_model text);
      select embedd.watch('silent', '{body}')`);
    onTestFinished(async () => {
      await db.query("drop table silent; drop function if exists unordered()");
    });
    expect(await embedd("status", "--table", "silent")).toMatchObject({ code: 0 });
    await db.query(ddl);
    const { out, code } = await embedd("status", "--table", "silent");
    expect(out.replace(/\n +try: /, " ")).toMatch(problem);
    expect(code).toBe(3);
  });

  it("has an embedding column of another type says what to type", async () => {
    await startWorker();
    const pipeline = await watchTable(db, { relation: "retyped" });
    await db.query("alter table retyped drop column embedding cascade, add column embedding real[]");
    await waitForError(pipeline, new RegExp(`no longer vector.*; embedd unwatch --pipeline ${pipeline} `));
    expect(await embedd("unwatch", "--pipeline", String(pipeline))).toMatchObject({ code: 0 });
  });

  it("moved to a schema that the worker may not use is reported, and embedd grant is the cure", async () => {
    const { role, url } = await createRole(db);
    await db.query(`select embedd.grant_worker('${role}')`);
    await startWorker(url);
    const pipeline = await watchTable(db, { relation: "relocated" });
    await db.query("create schema walled; alter table relocated set schema walled");
    await waitForError(
      pipeline,
      new RegExp(`role ${role} may not use schema walled.*; embedd grant ${role}`),
    );
    expect((await embedd("doctor")).out).toMatch(
      new RegExp(
        `FAIL {2}walled.relocated.embedding: ${role} lacks USAGE on schema walled\\n {6}try: embedd grant ${role}`,
      ),
    );
    expect(await embedd("grant", role)).toMatchObject({ code: 0 });
    await db.query("insert into walled.relocated (id, body) values (1, 'one')");
    await expectVectors(db, "walled.relocated", { 1: "one" });
    await waitForError(pipeline, null);
    await db.query(`select embedd.revoke_worker('${role}')`);
  });
});

describeServer("a command that waits for a table's lock", () => {
  it.each([["watch", "--content", "body"], ["unwatch"], ["repair"]])(
    "names the session that holds it: embedd %s",
    async (command, ...flags) => {
      const relation = `held_${command}`;
      await db.query(
        `create table ${relation} (id int primary key, body text, embedding vector(2), embedding_model text)`,
      );
      if (command !== "watch") await db.query("select embedd.watch($1, '{body}')", [relation]);
      const idle = await connectWriter(db.url);
      onTestFinished(async () => {
        await idle.query("rollback");
      });
      const { rows } = await idle.query<{ pid: number }>("select pg_backend_pid() as pid");
      await idle.query(`begin; select count(*) from ${relation}; insert into ${relation} (id) values (1)`);
      await waitFor(
        async () =>
          (
            await db.query("select from pg_stat_activity where pid = $1 and now() - xact_start > '1 s'", [
              rows[0]?.pid,
            ])
          ).rowCount === 1,
        { what: "a transaction that is a second old" },
      );
      const exit = await embedd(command, relation, ...flags);
      if (command === "watch")
        expect(exit.out).toContain(
          `waiting up to 10 s for the lock of ${relation}, held by pid ${rows[0]?.pid ?? 0} (`,
        );
      expect(exit.code).toBe(1);
      expect(exit.out).toMatch(
        new RegExp(
          `${relation} could not be locked within 10 s: it is held by pid ${rows[0]?.pid ?? 0} \\(test writer, role postgres, in a transaction for \\d+ s\\)`,
        ),
      );
    },
  );
});
