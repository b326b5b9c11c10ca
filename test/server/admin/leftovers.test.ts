import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { unwatch, watch } from "#embedd/admin/watch.js";
import { withOwnerClient } from "#embedd/database/pool.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { createRole } from "../../helpers/watched-table.js";

const db = useDatabase();

const indexes = async (): Promise<string[]> =>
  (
    await db.query<{ name: string }>(
      "select relname::text as name from pg_class where relkind in ('i', 'I') and relname ~ '^embedd_' and relnamespace = 'public'::regnamespace order by 1",
    )
  ).rows.map(({ name }) => name);

describeServer("unwatch", () => {
  it.each([
    ["a table", ""],
    ["a partitioned table", "partition by range (id)"],
  ])(
    "of %s drops the indexes that killed builds left, and leaves those of others",
    async (_, partitioning) => {
      await db.query(`create table docs (id int primary key, title text, body text, embedding vector(3), embedding_model text)
      ${partitioning}`);
      if (partitioning !== "")
        await db.query("create table part partition of docs for values from (0) to (10)");
      const before = await indexes();
      await withOwnerClient(db.url, async (client) => {
        const id = await watch(client, { relation: "docs", content: ["body"], embedding: "embedding" });
        const on = partitioning === "" ? "docs" : "only docs";
        await db.query(`create index embedd_${id}_pending_next on ${on} (id) where embedding is null`);
        if (partitioning !== "")
          await db.query(`create index embedd_${id}_pending_next_77 on part (id) where embedding is null;
          create index embedd_${id}_vector_78 on part using hnsw (embedding vector_cosine_ops)`);
        await db.query(`create index embedd_${id}_mine on docs (id);
        create table other (id int); create index embedd_${id}_pending_next_1 on other (id)`);
        await unwatch(client, "docs");
        expect((await indexes()).filter((name) => name !== `embedd_${id}_pending_next_1`)).toEqual(
          expect.not.arrayContaining([`embedd_${id}_pending`, `embedd_${id}_pending_next`]) as string[],
        );
        expect(
          (await indexes()).filter(
            (name) => !before.includes(name) && !name.includes("_mine") && !name.endsWith("_pending_next_1"),
          ),
        ).toEqual([]);
        expect(await indexes()).toContain(`embedd_${id}_pending_next_1`);
      });
      await db.query("drop table docs, other");
    },
  );
});

describeServer("embedd.watch_for_owner", () => {
  it("asks what becomes of existing vectors, like embedd.watch", async () => {
    const { role, url } = await createRole(db);
    await db.query(`create schema own authorization ${role}; select embedd.grant_owner('${role}'); set role ${role};
      create table own.docs (id int primary key, body text, embedding vector(3), embedding_model text);
      insert into own.docs values (1, 'one', '[1,2,3]', 'm'); reset role`);
    const owner = new pg.Client(url);
    await owner.connect();
    onTestFinished(() => owner.end());
    const call = (existing: string) =>
      owner.query(
        `select embedd.watch_for_owner('own.docs', '{body}', 'embedding', null, null, null, null, true, ${existing})`,
      );
    await expect(call("null")).rejects.toMatchObject({ constraint: "existing_vectors" });
    await expect(owner.query("select embedd.watch('own.docs', '{body}')")).rejects.toMatchObject({
      constraint: "existing_vectors",
    });
    await call("'refresh'");
    const { rows } = await db.query(
      "select refresh_started_at is not null as refreshing from embedd.pipelines where relation = 'own.docs'::regclass",
    );
    expect(rows).toEqual([{ refreshing: true }]);
    await db.query("select embedd.unwatch('own.docs')");
    await owner.query("update own.docs set embedding = null");
    await owner.query("select embedd.watch('own.docs', '{body}')");
    await db.query(`select embedd.unwatch('own.docs'), embedd.revoke_worker('${role}')`);
  });
});
