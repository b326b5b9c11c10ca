import { expect, it, onTestFinished } from "vitest";
import { spawnCli } from "../../helpers/cli.js";
import { describeServer, useDatabase } from "../../helpers/database.js";

const db = useDatabase();

const embedd = (...args: string[]) => spawnCli(args, { env: { DATABASE_URL: db.url } }).exited;

describeServer("a table that is gone", () => {
  it("breaks no command for another table", async () => {
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
