import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";

const db = useDatabase();

describeServer("the rows that workers and commands lock", () => {
  it("go with their pipeline, except that of a job that is still held", async () => {
    await db.query(`create table a (id int primary key, body text, embedding vector(3), embedding_model text);
      create table b (like a including all);
      create table c (like a including all)`);
    const client = new pg.Client({ connectionString: db.url });
    await client.connect();
    onTestFinished(() => client.end());
    const watch = async (table: string): Promise<number> => {
      const { rows } = await db.query<{ id: number }>("select embedd.watch($1, '{body}') as id", [table]);
      const id = rows[0]?.id ?? NaN;
      await db.query("select embedd.take_turn($1, 'claim')", [id]);
      return id;
    };
    const [a, b, c] = [await watch("a"), await watch("b"), await watch("c")];
    await client.query("select embedd.take_job($1, 'index')", [a]);
    const locks = async () =>
      (
        await db.query<{ id: number; name: string }>(
          "select pipeline_id as id, name from embedd.locks where pipeline_id = any ($1) order by id, name",
          [[a, b, c]],
        )
      ).rows;

    await db.query("select embedd.unwatch('a')");
    expect(await locks()).toEqual([
      { id: a, name: "index" },
      { id: b, name: "claim" },
      { id: c, name: "claim" },
    ]);
    await client.query("select embedd.end_job($1, 'index')", [a]);
    expect((await db.query("select embedd.job_holder($1, 'index') as holder", [a])).rows).toEqual([
      { holder: null },
    ]);
    await db.query("select embedd.unwatch('b')");
    expect(await locks()).toEqual([{ id: c, name: "claim" }]);
  });
});
