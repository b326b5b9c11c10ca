import { expect, it } from "vitest";
import { withOwnerClient } from "#embedd/database/pool.js";
import { switchModel } from "#embedd/admin/switch-model/switch-model.js";
import type { SwitchOptions } from "#embedd/admin/switch-model/switch.js";
import { watch } from "#embedd/admin/watch.js";
import { EmbeddError } from "#embedd/errors.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { catalogOf, expectModel, namedProvider } from "../../helpers/switch-model.js";
import { waitFor } from "../../helpers/wait.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();
const embedd = (...args: string[]) => spawnCli(args, { env: { DATABASE_URL: db.url } }).exited;

async function createDocs(relation: string, served = true, dimensions = 16): Promise<void> {
  await db.query(
    `create table ${relation} (id int primary key, body text, embedding vector(${dimensions}), embedding_model text);
     insert into ${relation} select i, 'text ' || i from generate_series(1, 30) i`,
  );
  await withOwnerClient(db.url, (client) =>
    watch(client, { relation, content: ["body"], embedding: "embedding" }),
  );
  if (served)
    await db.query("update embedd.pipelines set served_model = 'old' where relation = $1::regclass", [
      relation,
    ]);
}

const run = (relation: string, options: Partial<SwitchOptions> = {}) =>
  withOwnerClient(db.url, (client) =>
    switchModel(client, {
      relation,
      embedding: "embedding",
      model: "new",
      dimensions: 8,
      pollMs: 20,
      ...options,
    }),
  );

/** Adds the new columns and stops. */
const begin = (relation: string) =>
  expect(run(relation, { maxBehind: -1, signal: AbortSignal.abort() })).rejects.toThrow("abort");

describeServer("switch-model refuses, changing nothing:", () => {
  const cases: [what: string, change: string, args: string[], message: RegExp][] = [
    [
      "a table that is not watched",
      "create table other (id int)",
      ["other", "--model", "new", "--dimensions", "8"],
      /column embedding of other is not watched/,
    ],
    [
      "more dimensions than an index takes",
      "create index i on docs using hnsw (embedding vector_l2_ops)",
      ["docs", "--model", "new", "--dimensions", "2001"],
      /takes at most 2000 dimensions, not 2001/,
    ],
    [
      "more dimensions than the requested index takes",
      "select 1",
      ["docs", "--model", "text-embedding-3-large", "--index", "hnsw"],
      /takes at most 2000 dimensions, not 3072[\s\S]*--index none/,
    ],
    [
      "a column name that is in use",
      "alter table docs add embedding_next int",
      ["docs", "--model", "new", "--dimensions", "8"],
      /needs the name embedding_next/,
    ],
    [
      "columns left from the last switch",
      "alter table docs add embedding_model_previous int",
      ["docs", "--model", "new", "--dimensions", "8"],
      /needs the name embedding_model_previous/,
    ],
    [
      "a view of the old column",
      "create view v as select embedding <-> '[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]' as d from docs",
      ["docs", "--model", "new", "--dimensions", "8"],
      /would still use the old columns of docs: view v/,
    ],
    [
      "a default vector of the old dimensions",
      "alter table docs alter embedding set default array_fill(1, array[16])::vector",
      ["docs", "--model", "new", "--dimensions", "8"],
      /the default of docs.embedding is a vector of 16 dimensions[\s\S]*ALTER TABLE docs ALTER COLUMN embedding DROP DEFAULT;'\n/,
    ],
    [
      "a constraint",
      "alter table docs add constraint c check (embedding_model <> '')",
      ["docs", "--model", "new", "--dimensions", "8"],
      /constraint c on table public\.docs/,
    ],
    [
      "a model whose dimensions are not known",
      "select 1",
      ["docs", "--model", "unheard-of"],
      /the dimensions of unheard-of are not known/,
    ],
    ["a call without a table", "select 1", [], /name the table to switch/],
  ];
  it.each(cases)("%s", async (_, change, args, message) => {
    const { url, query } = await db.createMigratedDatabase();
    await query(
      `create table docs (id int primary key, body text, embedding vector(16), embedding_model text); ${change};
       select embedd.watch('docs', '{body}'); update embedd.pipelines set served_model = 'old'`,
    );
    const before = await catalogOf({ ...db, url, query });
    const exit = await spawnCli(["switch-model", ...args], { env: { DATABASE_URL: url } }).exited;
    expect(exit.stderr).toMatch(message);
    expect(exit.stderr).toMatch(/\n {2}try: /);
    expect(exit.code).toBe(2);
    expect(await catalogOf({ ...db, url, query })).toBe(before);
  });

  it("a table that no worker has served, and another target while one is under way", async () => {
    await createDocs("unserved", false);
    await expect(run("unserved")).rejects.toMatchObject({ code: "no_current_model" });
    await db.query("update embedd.pipelines set served_model = 'old' where relation = 'unserved'::regclass");
    await begin("unserved");
    await expect(run("unserved", { dimensions: 9 })).rejects.toMatchObject({ code: "switching" });
    await expect(run("unserved", { embedding: "embedding_next" })).rejects.toMatchObject({
      code: "switching",
    });
    await db.query("select embedd.unwatch('unserved'); drop table unserved");
  });
});

describeServer("while a model is switched", () => {
  it("--status shows the progress, and search uses the old column until the swap", async () => {
    await createDocs("docs", true, 384);
    await db.query("create index own on docs using hnsw (embedding vector_cosine_ops)");
    const old = await startTestWorker(db, { ...namedProvider("all-MiniLM-L6-v2", 384) });
    await expectModel(db, "docs", "all-MiniLM-L6-v2", 384);
    await begin("docs");
    expect(
      JSON.parse((await embedd("switch-model", "--status", "--json", "--max-behind", "0")).stdout),
    ).toMatchObject([
      {
        relation: "public.docs",
        step: "fill",
        toModel: "new",
        toDimensions: 8,
        done: 0,
        left: 30,
        behind: 30,
        dead: 0,
        served: false,
        indexes: [{ replaces: "own", state: "queued" }],
      },
    ]);
    expect((await embedd("switch-model", "docs", "--status")).stdout).toMatch(
      /step {6}fill\n {2}rows {6}0 done, 30 left, 0 dead\n {2}worker {4}no worker of new is connected\n {2}index {5}embedd_next_\d+: queued/,
    );
    expect(await embedd("search", "text 7", "--table", "docs")).toMatchObject({ code: 0 });
    const next = await startTestWorker(db, namedProvider("new", 8));
    await run("docs");
    expect(await embedd("search", "text 7", "--table", "docs")).toMatchObject({
      code: 3,
      stderr: expect.stringContaining("its current model is new") as string,
    });
    expect((await embedd("switch-model", "--status")).stdout).toBe("no switch is running\n");
    // As after a crash right after the swap.
    expect(await embedd("switch-model", "docs", "--model", "new", "--dimensions", "8")).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        /nothing to switch: .*already has vectors from new with 8 dimensions/,
      ) as string,
    });
    expect((await db.query("select * from embedd.model_of('docs')")).rows).toEqual([
      { model: "new", dimensions: 8 },
    ]);
    await Promise.all([old.stop(), next.stop()]);
  });

  it("dead rows are listed, and the swap happens only with --force", async () => {
    await createDocs("failing");
    const old = await startTestWorker(db, namedProvider("old", 16));
    await expectModel(db, "failing", "old", 16);
    await begin("failing");
    const inner = namedProvider("new", 8);
    const next = await startTestWorker(
      db,
      {
        ...inner,
        embed: (texts, options) =>
          texts.includes("text 13")
            ? Promise.reject(new EmbeddError("input refused", { kind: "row", code: "refused_input" }))
            : inner.embed(texts, options),
      },
      // Vectors of other tests must not be reused.
      { maxAttempts: 1, reuse: false },
    );
    const args = ["switch-model", "failing", "--max-behind", "0"];
    expect(await embedd(...args)).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(
        /1 row could not be embedded with new.*: 13\n {2}try: .*--force/,
      ) as string,
    });
    expect(await embedd(...args, "--force", "--drop-old")).toMatchObject({ code: 0 });
    expect((await db.query("select id from failing where embedding is null")).rows).toEqual([{ id: 13 }]);
    await Promise.all([old.stop(), next.stop()]);
  });

  it("the swap waits while only a worker of the old model is connected", async () => {
    await createDocs("alone");
    const old = await startTestWorker(db, namedProvider("old", 16));
    await expectModel(db, "alone", "old", 16);
    await begin("alone");
    const once = await startTestWorker(db, namedProvider("new", 8));
    await waitFor(
      async () => (await db.query("select from alone where embedding_next is null")).rowCount === 0,
      { what: "the new vectors" },
    );
    await once.stop();
    const command = spawnCli(["switch-model", "alone"], { env: { DATABASE_URL: db.url } });
    await command.waitForLine(/the worker of old would take over the column/);
    await old.stop();
    expect(await command.exited).toMatchObject({ code: 0 });
  });

  it.each(["", ", 'embedding'", ", 'embedding_next'"])(
    "unwatch('left'%s) ends the switch",
    async (argument) => {
      await db.query("drop table if exists left_");
      await createDocs("left_");
      const before = await catalogOf(db);
      await begin("left_");
      await db.query(`select embedd.unwatch('left_'${argument})`);
      expect(
        (
          await db.query(
            "select from pg_attribute where attname like 'embedding%next' and not attisdropped and attrelid in (select oid from pg_class where relkind = 'r')",
          )
        ).rowCount,
      ).toBe(0);
      if (argument.includes("next")) expect(await catalogOf(db)).toBe(before);
      else
        expect(
          (await db.query("select from embedd.pipelines where relation = 'left_'::regclass")).rowCount,
        ).toBe(0);
      if (argument.includes("next")) await db.query("select embedd.unwatch('left_')");
    },
  );

  it("uninstall removes the switch completely", async () => {
    await createDocs("installed");
    await begin("installed");
    expect(await embedd("uninstall", "--drop-chunks")).toMatchObject({ code: 0 });
    expect(
      (
        await db.query(
          "select from pg_attribute where attname like 'embedding%next' and not attisdropped and attrelid in (select oid from pg_class where relkind = 'r')",
        )
      ).rowCount,
    ).toBe(0);
    expect((await db.query("select from pg_trigger where tgname like 'zzz%'")).rowCount).toBe(0);
  });
});
