import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { spawnCli } from "../../helpers/cli.js";
import { describeServer, useDatabase } from "../../helpers/database.js";

const db = useDatabase();

const embedd = (...args: string[]) => spawnCli(args, { env: { DATABASE_URL: db.url } }).exited;

const COMMANDS = [["reembed", "--all"], ["reembed"], ["estimate"], ["estimate", "--stale"]];

/** What must not be said of a table that nobody has looked at. */
const ALL_IS_WELL = /no row has a vector|every row already uses|no pending rows|no stale rows/;

describeServer("a table whose rows cannot be counted is not said to have none", () => {
  it.each(COMMANDS)("because it is locked: embedd %s %s", async (...args) => {
    await db.query(`create table locked (id int primary key, body text, embedding vector(384), embedding_model text);
      insert into locked values (1, 'one', array_fill(0.5, array[384])::vector, 'm'), (2, 'two', null, null);
      select embedd.watch('locked', '{body}', existing => 'keep')`);
    const locker = new pg.Client(db.url);
    await locker.connect();
    onTestFinished(async () => {
      await locker.end();
      await db.query("drop table locked; select embedd.unwatch('locked')");
    });
    await locker.query("begin; lock table locked");
    const { code, stdout, stderr } = await embedd(...args, "--table", "locked");
    expect(stderr).toMatch(/locked.*: counts unavailable: another transaction holds its table locked/);
    expect(stdout).not.toMatch(ALL_IS_WELL);
    expect(code).toBe(3);
  });

  it.each(COMMANDS)("because it is gone: embedd %s %s", async (...args) => {
    await db.query(`create table gone (id int primary key, body text, embedding vector(384), embedding_model text);
      select embedd.watch('gone', '{body}'); drop table gone`);
    onTestFinished(async () => {
      await db.query("select embedd.unwatch('gone')");
    });
    const { code, stdout, stderr } = await embedd(...args, "--table", "gone");
    expect(stderr).toMatch(/gone.*: its table is gone\n {2}try: embedd unwatch public\.gone\n/);
    expect(stdout).not.toMatch(ALL_IS_WELL);
    expect(code).toBe(3);
  });

  it("and no command for another table fails because of one that is gone", async () => {
    await db.query(`create table gone (id int primary key, body text, embedding vector(384), embedding_model text);
      create table here (like gone including all); insert into here values (1, 'one');
      select embedd.watch('gone', '{body}'), embedd.watch('here', '{body}'); drop table gone`);
    onTestFinished(async () => {
      await db.query("select embedd.unwatch('gone'), embedd.unwatch('here'); drop table here");
    });
    expect(await embedd("status", "--table", "here")).toMatchObject({ code: 0, stderr: "" });
    expect(await embedd("estimate", "--table", "here")).toMatchObject({ code: 0, stderr: "" });
    expect((await embedd("search", "one", "--table", "here")).stderr).not.toMatch(/null values/);
    expect(await embedd("status", "--table", "gone")).toMatchObject({ code: 3, stderr: "" });
    expect((await embedd("repair", "gone")).stderr).toBe(
      "embedd: table public.gone was dropped\n  try: embedd unwatch public.gone\n",
    );
  });
});
