import type { PoolClient } from "pg";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { PRESENCE_CLASS } from "#embedd/database/advisory-locks.js";
import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import type { Pipeline } from "#embedd/database/pipeline.js";
import { takeTurn } from "#embedd/database/turns.sql.js";
import { claimPending, claimStale } from "#embedd/worker/claim/claim.sql.js";
import type { Claim, PendingOptions } from "#embedd/worker/claim/claim.sql.js";
import { endReembedding } from "#embedd/worker/claim/end-reembedding.sql.js";
import { findDueFailures } from "#embedd/worker/claim/find-refresh.sql.js";
import { findStale } from "#embedd/worker/claim/find-stale.sql.js";
import { releaseLease, releaseUnknown, renewLeases, trimLease } from "#embedd/worker/claim/leases.sql.js";
import { readRows } from "#embedd/worker/claim/read-rows.sql.js";
import { endRefresh } from "#embedd/worker/claim/refresh-windows.sql.js";
import type { ClaimedRow } from "#embedd/worker/rows.js";
import { completeRows } from "#embedd/worker/write/complete.sql.js";
import { chargeFailures } from "#embedd/worker/write/failures.sql.js";
import { endedOrBlocked } from "../../../helpers/blocked.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { hashVector } from "../../../helpers/providers.js";

const db = useDatabase();
const WORKER = 1;
const GONE = 2;

describeServer("a table of five pending rows", () => {
  let pipeline: Pipeline;
  let session: PoolClient;

  async function load(): Promise<void> {
    const { pipelines } = await loadPipelines(db.pool);
    const found = pipelines.find(({ relation }) => relation === "public.docs");
    if (found === undefined) throw new Error("docs is not watched");
    pipeline = found;
  }

  beforeAll(async () => {
    await db.query(`create table docs (id int primary key, body text, embedding vector(3), embedding_model text);
      select embedd.watch('docs', '{body}')`);
    // The presence of the one worker that is connected.
    session = await db.pool.connect();
    await session.query("select pg_advisory_lock($1, $2)", [PRESENCE_CLASS, WORKER]);
  });
  afterAll(() => {
    session.release(true);
  });
  beforeEach(async () => {
    await db.query(`truncate docs; delete from embedd.leases; delete from embedd.failures;
      delete from embedd.refresh_windows;
      update embedd.pipelines set reembed = false, refresh_started_at = null, refresh_cursor = null, served_model = 'm';
      insert into docs select i, 'text ' || i from generate_series(1, 5) i`);
    await load();
  });

  const claim = (options: Partial<PendingOptions> = {}): Promise<Claim | null> =>
    claimPending(db.pool, pipeline, {
      worker: WORKER,
      leaseMs: 600_000,
      maxChars: 1_000,
      maxClaimChars: 1_000_000,
      model: "m",
      oldest: 100,
      newest: 0,
      cursor: null,
      ...options,
    });
  const claimed = async (options: Partial<PendingOptions> = {}): Promise<string[]> =>
    ((await claim(options))?.keys ?? []).map(({ keyText }) => keyText);
  const release = () => db.query("delete from embedd.leases");
  const must = <T>(value: T | null | undefined): T => {
    if (value === null || value === undefined) throw new Error("nothing was claimed");
    return value;
  };

  /** Claims all rows, reads them, and charges some with a failure. */
  async function fail(kind: "pending" | "stale", ids: string[]): Promise<void> {
    const keys = must(await claim()).keys;
    const { rows } = await readRows(db.pool, pipeline, keys, { kind: "pending", model: "m", maxChars: 100 });
    const policy = { kind, maxAttempts: 3, baseDelayMs: 3_600_000, maxDelayMs: 3_600_000 };
    const refused = rows
      .filter(({ keyText }) => ids.includes(keyText))
      .map((row) => ({ row, code: "refused_input", message: "refused" }));
    await chargeFailures(db.pool, pipeline.id, refused, policy);
    await release();
  }

  it("is claimed in the order of keys, those from the newest end last, and only once", async () => {
    const first = must(await claim({ oldest: 2, newest: 1 }));
    expect(first.keys.map(({ keyText }) => keyText)).toEqual(["1", "2", "5"]);
    expect(first.last, "the next claim continues after the oldest").toEqual(["2"]);
    expect(await claimed({ cursor: first.last })).toEqual(["3", "4"]);
    expect(await claim()).toBeNull();
  });

  it("is claimed after the cursor", async () => {
    expect(await claimed({ cursor: ["3"] })).toEqual(["4", "5"]);
  });

  it("is claimed up to the characters that a claim may have, but one row at least", async () => {
    await db.query("update docs set body = repeat('x', 100)");
    expect(await claimed({ maxClaimChars: 300 })).toEqual(["1", "2"]);
    expect(await claimed({ maxClaimChars: 10 })).toEqual(["3"]);
  });

  it("keeps a lease while its worker is connected, and until it expires", async () => {
    expect(await claimed()).toHaveLength(5);
    await db.query("update embedd.leases set expires_at = now() - interval '1 s'");
    expect(await claimed({ worker: GONE })).toHaveLength(5);
    expect(await claimed(), "of a worker that is gone").toHaveLength(5);
  });

  it("keeps a row back until its next attempt is due or it has a new text", async () => {
    await fail("pending", ["1", "2"]);
    expect(await claimed()).toEqual(["3", "4", "5"]);
    await release();
    await db.query("update docs set body = 'new' where id = 2");
    expect(await claimed()).toEqual(["2", "3", "4", "5"]);
    await release();
    await db.query("update embedd.failures set next_attempt_at = now() - interval '1 s'");
    expect(await claimed()).toHaveLength(5);
    await release();
    await db.query("update embedd.failures set dead = true where key = '1'");
    expect(await claimed()).toEqual(["2", "3", "4", "5"]);
  });

  it("is not claimed for columns that are no longer the pipeline's", async () => {
    await db.query("update embedd.pipelines set template = '{body}!' where id = $1", [pipeline.id]);
    expect(await claim()).toBeNull();
    await db.query("update embedd.pipelines set template = null where id = $1", [pipeline.id]);
    expect(await claimed()).toHaveLength(5);
  });

  it("is claimed by one worker at a time, which sees what the one before leased", async () => {
    const other = await db.pool.connect();
    try {
      await other.query("begin");
      await takeTurn(other, pipeline.id, "claim");
      const { rows } = await other.query<{ pid: number }>("select pg_backend_pid() as pid");
      const claiming = claimed();
      await endedOrBlocked(db, claiming, rows[0]?.pid ?? 0);
      await other.query(
        "insert into embedd.leases (pipeline_id, worker, keys, expires_at) values ($1, $2, '{1,2,3}', now() + interval '1 h')",
        [pipeline.id, WORKER],
      );
      await other.query("commit");
      expect(await claiming).toEqual(["4", "5"]);
    } finally {
      other.release();
    }
  });

  it("has leases that are trimmed, renewed and released one by one", async () => {
    const [a, b] = [must(await claim({ oldest: 2 })), must(await claim({ oldest: 2, cursor: ["2"] }))];
    await trimLease(db.pool, a.leaseId, ["1"]);
    expect(await claimed(), "what was trimmed, and what was never leased").toEqual(["2", "5"]);
    await db.query("update embedd.leases set expires_at = now() + interval '1 s'");
    await renewLeases(db.pool, [a.leaseId], 3_600_000);
    const { rows } = await db.query<{ id: string }>(
      "select id::text from embedd.leases where expires_at > now() + interval '30 min'",
    );
    expect(rows).toEqual([{ id: a.leaseId }]);
    await releaseLease(db.pool, b.leaseId);
    await db.query("update embedd.leases set expires_at = now() + interval '1 h'");
    expect(await claimed()).toEqual(["3", "4"]);
  });

  it("releases what its worker does not know of, of this pipeline alone", async () => {
    const known = must(await claim({ oldest: 1 }));
    await claim();
    await db.query(
      `insert into embedd.leases (pipeline_id, worker, keys, expires_at)
       select id, $1, '{x}', now() + interval '1 h' from embedd.pipelines where relation = 'embedd.chunks'::regclass`,
      [WORKER],
    );
    await releaseUnknown(db.pool, WORKER, pipeline.id, [known.leaseId]);
    const { rows } = await db.query<{ keys: string[] }>("select keys from embedd.leases");
    expect(rows.map(({ keys }) => keys.join()).sort()).toEqual(["1", "x"]);
  });

  describeServer("whose vectors are written", () => {
    async function read(): Promise<{ leaseId: string; rows: (ClaimedRow & { embedding: Float32Array })[] }> {
      const { leaseId, keys } = must(await claim());
      const { rows } = await readRows(db.pool, pipeline, keys, {
        kind: "pending",
        model: "m",
        maxChars: 100,
      });
      return { leaseId, rows: rows.map((row) => ({ ...row, embedding: hashVector(row.keyText, 3) })) };
    }
    const write = async ({ leaseId, rows }: Awaited<ReturnType<typeof read>>): Promise<string[]> =>
      [...(await completeRows(db.pool, pipeline, { kind: "pending", leaseId, model: "m", rows }))].sort();

    it("keeps edits and vectors that were written meanwhile, and the lease keeps those rows", async () => {
      const batch = await read();
      await db.query(`update docs set body = 'edited' where id = 1;
        update docs set embedding = '[1,2,3]', embedding_model = 'writer' where id = 2`);
      expect(await write(batch)).toEqual(["3", "4", "5"]);
      const { rows } = await db.query("select id, embedding_model from docs where id < 3 order by id");
      expect(rows).toEqual([
        { id: 1, embedding_model: null },
        { id: 2, embedding_model: "writer" },
      ]);
      const leases = await db.query<{ keys: string[] }>("select keys from embedd.leases");
      expect(leases.rows.map(({ keys }) => [...keys].sort())).toEqual([["1", "2"]]);
    });

    it("ends the lease and the failures of rows that are written", async () => {
      const batch = await read();
      await db.query(
        "insert into embedd.failures (pipeline_id, key, content_hash, code, error, next_attempt_at) values ($1, '1', '', 'refused_input', '', now())",
        [pipeline.id],
      );
      expect(await write(batch)).toHaveLength(5);
      expect((await db.query("select from embedd.leases")).rowCount).toBe(0);
      expect((await db.query("select from embedd.failures")).rowCount).toBe(0);
    });

    it("gets none of a model that has lost the pipeline", async () => {
      const batch = await read();
      await db.query("update embedd.pipelines set served_model = 'other' where id = $1", [pipeline.id]);
      expect(await write(batch)).toEqual([]);
    });
  });

  describeServer("whose vectors are of another model", () => {
    beforeEach(async () => {
      await db.query(
        "update docs set embedding = '[1,2,3]', embedding_model = case when id < 4 then 'old' else 'm' end",
      );
    });
    const find = async (model = "m"): Promise<string[]> =>
      (await findStale(db.pool, pipeline, { model, limit: 10, cursor: null })).keys.map(([key = ""]) => key);
    const stale = (keys: string[]) =>
      claimStale(db.pool, pipeline, {
        kind: "stale",
        worker: WORKER,
        leaseMs: 600_000,
        maxChars: 1_000,
        maxClaimChars: 1_000_000,
        model: "m",
        keys: keys.map((key) => [key]),
      });
    const failure = (key: string, due: string, dead = false) =>
      db.query(
        `insert into embedd.failures (pipeline_id, key, content_hash, code, error, next_attempt_at, dead, stale)
         values ($1, $2, '', 'refused_input', '', now() + $3::interval, $4, true)`,
        [pipeline.id, key, due, dead],
      );

    it("are found newest first, unless leased, backing off or for another model's worker", async () => {
      expect(await find()).toEqual(["3", "2", "1"]);
      expect(await find("other")).toEqual([]);
      await failure("3", "1 h");
      const leased = must(await stale(["2"]));
      expect(leased.keys.map(({ keyText }) => keyText)).toEqual(["2"]);
      expect(await find()).toEqual(["1"]);
    });

    it("are claimed only if they still are", async () => {
      const found = must(await stale(["5", "4", "3", "1"]));
      expect(found.keys.map(({ keyText }) => keyText)).toEqual(["3", "1"]);
    });

    it("end their re-embedding once none is leased or may be tried again, for the current model", async () => {
      const begin = () => db.query("update embedd.pipelines set reembed = true where id = $1", [pipeline.id]);
      await begin();
      const { leaseId } = must(await stale(["3"]));
      expect(await endReembedding(db.pool, pipeline.id, "m")).toBe(false);
      await releaseLease(db.pool, leaseId);
      await failure("3", "1 h");
      expect(await endReembedding(db.pool, pipeline.id, "m")).toBe(false);
      await db.query("update embedd.failures set dead = true");
      expect(await endReembedding(db.pool, pipeline.id, "other")).toBe(false);
      expect(await endReembedding(db.pool, pipeline.id, "m")).toBe(true);
    });

    it("end a refresh once every window is done and no row may be tried again", async () => {
      await db.query(
        "update embedd.pipelines set refresh_started_at = now(), refresh_cursor = '{3}' where id = $1",
        [pipeline.id],
      );
      await load();
      expect(await endRefresh(db.pool, pipeline, "m"), "rows are left").toBe(false);
      await db.query("update embedd.pipelines set refresh_cursor = '{}' where id = $1", [pipeline.id]);
      await db.query(
        "insert into embedd.refresh_windows (pipeline_id, worker, expires_at) values ($1, $2, now() + interval '1 h')",
        [pipeline.id, WORKER],
      );
      expect(await endRefresh(db.pool, pipeline, "m"), "a window is left").toBe(false);
      await db.query("delete from embedd.refresh_windows");
      await failure("3", "1 h");
      await failure("2", "-1 s");
      await failure("1", "-1 s", true);
      expect((await findDueFailures(db.pool, pipeline)).map(({ keyText }) => keyText)).toEqual(["2"]);
      expect(await endRefresh(db.pool, pipeline, "m"), "failures are left").toBe(false);
      await db.query("update embedd.failures set dead = true");
      expect(await endRefresh(db.pool, pipeline, "m")).toBe(true);
    });
  });
});
