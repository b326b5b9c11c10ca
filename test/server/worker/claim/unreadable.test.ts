import { expect, it } from "vitest";
import { estimateBacklog } from "#embedd/admin/estimate.js";
import { migrate } from "#embedd/admin/migrate.js";
import { searchRows } from "#embedd/admin/search.sql.js";
import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import type { Pipeline } from "#embedd/database/pipeline.js";
import { createWorker } from "#embedd/worker/worker.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { destroyLongValues } from "../../../helpers/damage.js";
import type { Database } from "../../../helpers/database.js";
import { hashProvider, hashVector } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { createRole, expectVectors } from "../../../helpers/watched-table.js";
import { WITHOUT_TIMERS, startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();
const columns = "embedding vector(384), embedding_model text";

async function pipelineOf(relation: string): Promise<Pipeline> {
  const { pipelines } = await loadPipelines(db.pool);
  const pipeline = pipelines.find((p) => p.relation === `public.${relation}`);
  if (pipeline === undefined) throw new Error(`${relation} is not watched`);
  return pipeline;
}

const failuresOf = async (relation: string, on: Pick<Database, "query"> = db) =>
  (
    await on.query(
      `select f.key, f.code, f.dead, f.unreadable, f.stale
       from embedd.failures f join embedd.pipelines p on p.id = f.pipeline_id
       where p.relation = $1::regclass order by f.key`,
      [relation],
    )
  ).rows;

const untilDead = (relation: string, count: number) =>
  waitFor(
    async () =>
      (
        await db.query(
          "select from embedd.failures f join embedd.pipelines p on p.id = f.pipeline_id where p.relation = $1::regclass and f.dead",
          [relation],
        )
      ).rowCount === count,
    { what: "the unreadable rows to be dead" },
  );

/** Too random to be compressed, so it is stored apart from its row. */
const longText = "(select string_agg(md5(i::text), ' ') from generate_series(1, 1000) i)";

describeServer("a row that PostgreSQL cannot read", () => {
  it("because a cast to text raises is charged alone, and its neighbors are embedded", async () => {
    await db.query(`
      create type secret as (word text);
      create function secret_text(secret) returns text language plpgsql immutable strict as $$
      begin
        if $1.word like 'bad%' then raise exception 'the word is %', $1.word using errcode = '22012'; end if;
        return $1.word;
      end $$;
      create cast (secret as text) with function secret_text(secret);
      create table casts (id int primary key, body secret, ${columns});
      insert into casts select i, row('word ' || i)::secret from generate_series(1, 300) i;
      update casts set body = row('bad ' || id)::secret where id in (1, 150, 300);
      select embedd.watch('casts', '{body}')`);
    await startTestWorker(db, hashProvider(), { maxAttempts: 2, retryDelayMs: 10 });
    await untilDead("casts", 3);
    expect(await failuresOf("casts")).toEqual(
      ["1", "150", "300"].map((key) => ({ key, code: "22012", dead: true, unreadable: true, stale: false })),
    );
    const { rows: errors } = await db.query<{ error: string }>("select error from embedd.failures");
    expect(errors.map(({ error }) => error).join()).not.toContain("bad");
    await waitFor(async () => (await db.query("select from casts where embedding is null")).rowCount === 3, {
      what: "the neighbors",
    });
    const { rows } = await db.query(
      "select pending::int, dead::int, done::int from embedd.status where relation = 'casts'",
    );
    expect(rows).toEqual([{ pending: 0, dead: 3, done: 297 }]);
  });

  it("is found by a role that may read the watched columns alone, and any edit makes it claimable", async () => {
    const { role, url } = await createRole(db);
    await db.query(`
      create type half as (word text);
      create function half_text(half) returns text language plpgsql immutable strict as $$
      begin
        if $1.word = 'bad' then raise exception 'no text' using errcode = 'P0002'; end if;
        return $1.word;
      end $$;
      create cast (half as text) with function half_text(half);
      create table guarded (id int primary key, body half, ${columns});
      select embedd.watch('guarded', '{body}'), embedd.grant_worker('${role}')`);
    await db.query("insert into guarded values (1, row('one')), (2, row('bad')), (3, row('three'))");
    const worker = await createWorker({
      ...WITHOUT_TIMERS,
      databaseUrl: url,
      provider: hashProvider(),
      reuse: false,
      maxAttempts: 1,
    });
    try {
      await untilDead("guarded", 1);
      expect(await failuresOf("guarded")).toEqual([
        { key: "2", code: "P0002", dead: true, unreadable: true, stale: false },
      ]);
      // Of the same size.
      await db.query("update guarded set body = row('two') where id = 2");
      await db.query(
        "select embedd.notify(id::text) from embedd.pipelines where relation = 'guarded'::regclass",
      );
      await expectVectors(db, "guarded", { 1: "one", 2: "two", 3: "three" });
    } finally {
      await worker.stop();
      await db.query(`select embedd.revoke_worker('${role}')`);
    }
  });

  it("because its TOAST value is damaged stops neither its neighbors nor status, estimates and later rows", async () => {
    await db.query(`
      create table damaged (id int primary key, body text, ${columns});
      alter table damaged alter column body set storage external;
      insert into damaged values (1, 'one'), (2, ${longText}), (3, 'three');
      select embedd.watch('damaged', '{body}')`);
    await destroyLongValues(db, "damaged");
    await expect(db.query("select count(md5(body)) from damaged")).rejects.toMatchObject({ code: "XX001" });

    const estimate = await estimateBacklog(db.pool, await pipelineOf("damaged"), hashProvider(), {
      kind: "pending",
      rows: 3,
      maxChars: 1_000,
      sampleRows: 10,
      trialRows: 0,
      meter: { reserve: () => Promise.resolve({ settle: () => undefined }) },
    });
    expect(estimate).toMatchObject({ rows: 3, sampledRows: 2 });

    await startTestWorker(db, hashProvider(), { maxAttempts: 2, retryDelayMs: 10 });
    await untilDead("damaged", 1);
    expect(await failuresOf("damaged")).toEqual([
      { key: "2", code: "XX001", dead: true, unreadable: true, stale: false },
    ]);
    await db.query("insert into damaged values (4, 'four')");
    await expectVectors(db, "damaged", { 1: "one", 2: null, 3: "three", 4: "four" });
    const { rows } = await db.query(
      "select pending::int, dead::int, done::int, blank::int from embedd.status where relation = 'damaged'",
    );
    expect(rows).toEqual([{ pending: 0, dead: 1, done: 3, blank: 0 }]);
  });

  it("any more, after its text was refused, becomes an unreadable row and stops no claim", async () => {
    await db.query(`
      create table refused (id int primary key, body text, ${columns});
      alter table refused alter column body set storage external;
      select embedd.watch('refused', '{body}');
      insert into refused values (1, 'one'), (2, ${longText}), (3, 'three');
      insert into embedd.failures (pipeline_id, key, content_hash, code, error, next_attempt_at, dead)
      select id, '2', '\\x00', 'refused_input', 'refused', now(), true
      from embedd.pipelines where relation = 'refused'::regclass`);
    await destroyLongValues(db, "refused");
    await startTestWorker(db, hashProvider());
    await expectVectors(db, "refused", { 1: "one", 2: null, 3: "three" });
    await waitFor(async () => (await failuresOf("refused"))[0]?.["unreadable"] === true, {
      what: "the failure to be marked",
    });
    expect(await failuresOf("refused")).toMatchObject([{ key: "2", code: "XX001", unreadable: true }]);
  });

  it("does not stop a search or the re-embedding of others once it has a vector", async () => {
    await db.query(`
      create table found (id int primary key, body text, ${columns});
      alter table found alter column body set storage external;
      insert into found values (1, 'one'), (2, ${longText}), (3, 'three');
      select embedd.watch('found', '{body}')`);
    const first = await startTestWorker(db, hashProvider({ model: "a" }));
    await waitFor(async () => (await db.query("select from found where embedding is null")).rowCount === 0, {
      what: "the vectors",
    });
    await first.stop();
    await destroyLongValues(db, "found");
    const found = await searchRows(db.pool, await pipelineOf("found"), "a", hashVector("one"), {
      limit: 10,
      maxChars: 100,
    });
    expect(found[0]).toEqual({ key: "1", distance: 0, content: { body: "one" }, truncated: [] });
    expect(found.map(({ key }) => key).sort()).toEqual(["1", "2", "3"]);
    expect(found.find(({ key }) => key === "2")?.content).toEqual({ body: null });

    await db.query("update embedd.pipelines set reembed = true where relation = 'found'::regclass");
    await startTestWorker(db, hashProvider({ model: "b" }), {
      maxAttempts: 2,
      retryDelayMs: 10,
      takeoverMs: 0,
      // A stale row that was not yet due when a pass ended is tried again after a poll.
      pollIntervalMs: 500,
    });
    await untilDead("found", 1);
    await waitFor(
      async () =>
        (await db.query("select from found where embedding_model = 'b'")).rowCount === 2 &&
        (await db.query("select from embedd.pipelines where relation = 'found'::regclass and not reembed"))
          .rowCount === 1,
      { what: "the other rows to be re-embedded" },
    );
    expect(await failuresOf("found")).toEqual([
      { key: "2", code: "XX001", dead: true, unreadable: true, stale: true },
    ]);
  });

  it("with 600 MB of quotation marks does not stop its neighbors", async () => {
    await db.query(`
      create table huge (id int primary key, body text, ${columns});
      select embedd.watch('huge', '{body}');
      insert into huge select 1, repeat('"', 600000000);
      insert into huge values (2, 'two'), (3, 'three')`);
    await startTestWorker(db, hashProvider());
    await waitFor(
      async () => (await db.query("select from huge where id > 1 and embedding is null")).rowCount === 0,
      { what: "the neighbors" },
    );
    await db.query("insert into huge values (4, 'four')");
    await waitFor(async () => (await db.query("select from huge where embedding is null")).rowCount === 0, {
      what: "all rows, because a text is hashed in its own size",
    });
    expect(await failuresOf("huge")).toEqual([]);
    await db.query("drop table huge");
  }, 300_000);

  it("because of bytes that are no UTF-8 is charged alone, and an edit makes it claimable at once", async () => {
    const ascii = await db.createDatabase("SQL_ASCII");
    await migrate(ascii.url);
    await ascii.query(`
      create table bytes (id int primary key, body text, ${columns});
      select embedd.watch('bytes', '{body}');
      insert into bytes values (1, 'one'), (2, E'broken \\xff'), (3, 'three'), (4, repeat('\u00fc', 20)), (5, 'fr\u00fch')`);
    const worker = await createWorker({
      ...WITHOUT_TIMERS,
      databaseUrl: ascii.url,
      provider: hashProvider(),
      reuse: false,
      maxAttempts: 1,
      maxChars: 21,
    });
    // Bytes count as characters there, and the last character that fits is not whole.
    const others = { 1: "one", 3: "three", 4: "\u00fc".repeat(10), 5: "fr\u00fch" };
    try {
      await expectVectors(ascii, "bytes", { ...others, 2: null });
      await waitFor(async () => (await failuresOf("bytes", ascii)).length === 1, { what: "the failure" });
      expect(await failuresOf("bytes", ascii)).toEqual([
        { key: "2", code: "22021", dead: true, unreadable: true, stale: false },
      ]);
      await ascii.query("update bytes set body = 'mended' where id = 2");
      await expectVectors(ascii, "bytes", { ...others, 2: "mended" });
    } finally {
      await worker.stop();
      await ascii.drop();
    }
  });

  it("because its key is no UTF-8 gets its vector like others, and a failure is listed by the key's bytes", async () => {
    const ascii = await db.createDatabase("SQL_ASCII");
    await migrate(ascii.url);
    await ascii.query(`
      create table keyed (id text primary key, body text, ${columns});
      create table pairs (a text, b int, body text, ${columns}, primary key (a, b));
      select embedd.watch('keyed', '{body}'), embedd.watch('pairs', '{body}');
      insert into keyed values ('a', 'one'), (E'b\\\\\\xff', 'two'), (E'c\\xff', E'\\xff'), ('fr\u00fch', 'four'), ('', 'five');
      insert into pairs values (E'\\xff', 1, 'one'), ('a', 2, 'two')`);
    const done = async (model: string, count: number) =>
      waitFor(
        async () =>
          (
            await ascii.query(
              "select from keyed where embedding_model = $1 union all select from pairs where embedding_model = $1",
              [model],
            )
          ).rowCount === count,
        { what: `the vectors of ${model}` },
      );
    const options = {
      ...WITHOUT_TIMERS,
      databaseUrl: ascii.url,
      reuse: false,
      maxAttempts: 1,
      takeoverMs: 0,
    };
    const first = await createWorker({ ...options, provider: hashProvider({ model: "a" }) });
    try {
      await done("a", 6);
      await waitFor(async () => (await failuresOf("keyed", ascii)).length === 1, { what: "the failure" });
      expect(await failuresOf("keyed", ascii)).toMatchObject([{ key: "\\x63ff", code: "22021", dead: true }]);
      await ascii.query("update keyed set body = 'mended' where body = E'\\xff'");
      await done("a", 7);
      expect(await failuresOf("keyed", ascii)).toEqual([]);
    } finally {
      await first.stop();
    }
    const provider = hashProvider({ model: "b" });
    const second = await createWorker({ ...options, provider });
    try {
      await ascii.query(
        "update embedd.pipelines set reembed = true where relation <> 'embedd.chunks'::regclass",
      );
      await done("b", 7);
      await waitFor(
        async () => (await ascii.query("select from embedd.pipelines where reembed")).rowCount === 0,
        { what: "the end of the re-embedding" },
      );
      provider.texts.length = 0;
      await ascii.query(
        "select embedd.resolve_gap(id, 'refresh') from embedd.pipelines where relation <> 'embedd.chunks'::regclass",
      );
      await waitFor(
        async () =>
          (await ascii.query("select from embedd.pipelines where refresh_started_at is not null"))
            .rowCount === 0,
        { what: "the refresh" },
      );
      expect([...provider.texts].sort()).toEqual(["five", "four", "mended", "one", "one", "two", "two"]);
    } finally {
      await second.stop();
      await ascii.drop();
    }
  });
});
