import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

const state = async (relation: string) =>
  (
    await db.query<{ state: string }>("select vector_index as state from embedd.status where relation = $1", [
      relation,
    ])
  ).rows[0]?.state;

describeServer("watch --index hnsw", () => {
  it.each([
    [
      "plain",
      "create table plain (id int primary key, body text, embedding vector(384), embedding_model text)",
      "vector_cosine_ops",
    ],
    [
      "half",
      "create table half (id int primary key, body text, embedding halfvec(384), embedding_model text)",
      "halfvec_cosine_ops",
    ],
    [
      "parted",
      `create table parted (id int primary key, body text, embedding vector(384), embedding_model text) partition by range (id);
       create table parted_1 partition of parted for values from (0) to (50);
       create table parted_2 partition of parted for values from (50) to (1000)`,
      "vector_cosine_ops",
    ],
  ])("builds the index once the backlog is done, and status shows it: %s", async (name, ddl, operators) => {
    await db.query(ddl);
    await db.query(`insert into ${name} select i, 'text ' || i from generate_series(1, 100) i`);
    expect(
      await spawnCli(["watch", name, "--content", "body", "--index", "hnsw"], {
        env: { DATABASE_URL: db.url },
      }).exited,
    ).toMatchObject({ code: 0 });
    expect(await state(name)).toBe("queued");
    await startTestWorker(db, hashProvider());
    await waitFor(async () => (await state(name)) === "ready", { what: "the index" });
    const { rows } = await db.query<{ definition: string; pending: number }>(
      `select pg_get_indexdef(i.indexrelid) as definition,
         (select count(*)::int from ${name} where embedding is null) as pending
       from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = $1::regclass and c.relname like 'embedd_%_vector'`,
      [name],
    );
    expect(rows).toMatchObject([
      { definition: expect.stringMatching(new RegExp(`USING hnsw.*${operators}`)) as string, pending: 0 },
    ]);
    expect((await spawnCli(["status"], { env: { DATABASE_URL: db.url } }).exited).stdout).toContain(
      "index     ready",
    );
  });
});
