import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

const error = async (relation: string) =>
  (
    await db.query<{ error: string | null }>("select error from embedd.status where relation = $1", [
      relation,
    ])
  ).rows[0]?.error ?? null;

const embedded = (table: string, count: number) =>
  waitFor(
    async () => (await db.query(`select from ${table} where embedding is not null`)).rowCount === count,
    {
      timeoutMs: 15_000,
      what: `${count} vectors in ${table}`,
    },
  );

async function watched(name: string): Promise<void> {
  await db.query(
    `create table ${name} (id int primary key, body text, embedding vector(384), embedding_model text)`,
  );
  await db.query("select embedd.watch($1, '{body}')", [name]);
}

describeServer("a table that changes its shape under a running worker", () => {
  it.each([
    [
      "a dropped model column",
      "alter table NAME drop embedding_model cascade",
      "alter table NAME add embedding_model text; select embedd.repair('NAME', existing => 'keep')",
      /gone: embedding_model/,
    ],
    [
      "a dropped content column",
      "alter table NAME drop body cascade",
      "alter table NAME add body text; select embedd.repair('NAME', existing => 'keep')",
      /gone: body/,
    ],
  ])(
    "with %s is reported and not served, other tables are, and it resumes once repaired",
    async (what, damage, repair, message) => {
      const name = what.replaceAll(" ", "_");
      await watched(name);
      await startTestWorker(db, hashProvider(), { pollIntervalMs: 500 });
      await db.query(`insert into ${name} values (1, 'before')`);
      await embedded(name, 1);
      await db.query(damage.replace("NAME", name));
      await waitFor(async () => message.test((await error(name)) ?? ""), {
        timeoutMs: 10_000,
        what: "the state in embedd.status",
      });
      await db.query("insert into embedd.chunks (source, content) values ($1, 'the others go on')", [name]);
      await waitFor(
        async () =>
          (await db.query("select from embedd.chunks where source = $1 and embedding is not null", [name]))
            .rowCount === 1,
        { timeoutMs: 10_000, what: "another pipeline's row" },
      );
      await db.query(repair.replaceAll("NAME", name));
      await db.query(`insert into ${name} (id, body) values (2, 'after')`);
      await embedded(name, 2);
      await waitFor(async () => (await error(name)) === null, {
        timeoutMs: 10_000,
        what: "the state to be cleared",
      });
    },
  );

  it.each([
    ["content", "body", "text"],
    ["key", "id", "nr"],
    ["embedding", "embedding", "vec"],
    ["model", "embedding_model", "made by"],
  ])(
    "is served under the new name of a renamed %s column, and edits drop the vector",
    async (_, from, to) => {
      const name = `followed_${from}`;
      const names = Object.fromEntries(
        ["id", "body", "embedding", "embedding_model"].map((column) => [
          column,
          `"${column === from ? to : column}"`,
        ]),
      );
      await watched(name);
      await startTestWorker(db, hashProvider(), { pollIntervalMs: 500 });
      await db.query(`insert into ${name} values (1, 'before')`);
      await embedded(name, 1);
      await db.query(`alter table ${name} rename "${from}" to "${to}"`);
      await db.query(`insert into ${name} (${names["id"]}, ${names["body"]}) values (2, 'after')`);
      await waitFor(
        async () =>
          (await db.query(`select from ${name} where ${names["embedding"]} is not null`)).rowCount === 2,
        { timeoutMs: 15_000, what: "the vectors under the new name" },
      );
      expect(await error(name)).toBeNull();
      const { rows } = await db.query(
        `update ${name} set ${names["body"]} = 'edited' where ${names["id"]} = 1
       returning ${names["embedding"]} is null and ${names["embedding_model"]} is null as dropped`,
      );
      expect(rows).toEqual([{ dropped: true }]);
    },
  );

  it("with a template follows renamed columns, also when two swap their names", async () => {
    await db.query(`create table swapped (id int primary key, a text, b text, embedding vector(384), embedding_model text);
      select embedd.watch('swapped', '{a,b}', template => '{{{a}}}: {b}')`);
    await db.query(
      "alter table swapped rename a to c; alter table swapped rename b to a; alter table swapped rename c to b",
    );
    await db.query("select embedd.follow_names()");
    expect(
      (
        await db.query(
          "select content_columns, template from embedd.pipelines where relation = 'swapped'::regclass",
        )
      ).rows,
    ).toEqual([{ content_columns: ["b", "a"], template: "{{{b}}}: {a}" }]);
  });

  it("keeps its types: PostgreSQL refuses to change that of a content column", async () => {
    await watched("typed");
    await expect(db.query("alter table typed alter body type varchar")).rejects.toMatchObject({
      code: "0A000",
    });
  });

  it("is served under its new name, and no longer served once it is dropped", async () => {
    await watched("moves");
    await startTestWorker(db, hashProvider(), { pollIntervalMs: 500 });
    await db.query("alter table moves rename to moved; insert into moved values (1, 'renamed')");
    await embedded("moved", 1);
    await db.query("drop table moved");
    await waitFor(
      async () =>
        (
          await db.query(
            "select from embedd.pipelines where error = 'its table is gone; embedd unwatch public.moved'",
          )
        ).rowCount === 1,
      { timeoutMs: 10_000, what: "the state of the dropped table" },
    );
    await db.query("insert into embedd.chunks (source, content) values ('after the drop', 'goes on')");
    await waitFor(
      async () =>
        (
          await db.query(
            "select from embedd.chunks where source = 'after the drop' and embedding is not null",
          )
        ).rowCount === 1,
      { timeoutMs: 10_000, what: "another pipeline's row" },
    );
  });

  it("is served again when watch is called with the new names", async () => {
    await watched("renamed");
    await startTestWorker(db, hashProvider(), { pollIntervalMs: 500 });
    await db.query("alter table renamed rename body to words; select embedd.watch('renamed', '{words}')");
    await db.query("insert into renamed (id, words) values (1, 'new name')");
    await embedded("renamed", 1);
    expect(
      (await db.query("select from embedd.pipelines where relation = 'renamed'::regclass")).rowCount,
    ).toBe(1);
  });
});
