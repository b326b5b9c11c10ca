import type { PoolClient } from "pg";
import { beforeAll, expect, it } from "vitest";
import { pendingStatement, staleStatement } from "#embedd/worker/claim/claim.sql.js";
import { readStatement } from "#embedd/worker/claim/read-rows.sql.js";
import { completeStatement } from "#embedd/worker/write/complete.sql.js";
import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import type { Pipeline } from "#embedd/database/pipeline.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { hashProvider, hashVector } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();
const ROWS = 100_000;

async function explain(statement: string, params: unknown[], searchPath = "default"): Promise<string> {
  const client: PoolClient = await db.pool.connect();
  try {
    await client.query(`begin; set local search_path = ${searchPath}`);
    const { rows } = await client.query<{ "QUERY PLAN": string }>(`explain ${statement}`, params);
    return rows.map((row) => row["QUERY PLAN"]).join("\n");
  } finally {
    await client.query("rollback");
    client.release();
  }
}

describeServer(`with ${ROWS} rows`, () => {
  let simple: Pipeline;
  let composite: Pipeline;

  beforeAll(async () => {
    // After a vacuum, a new row may be in the room that others left, where nothing shows that it is new.
    await db.query(`
      create table simple (id bigint generated always as identity primary key, body text, embedding vector(384), embedding_model text)
        with (autovacuum_enabled = off);
      create table composite (tenant int, day date, name text, body text, embedding vector(384), embedding_model text, primary key (tenant, day, name))
        with (autovacuum_enabled = off);
      insert into simple (body) select 'text ' || i from generate_series(1, ${ROWS}) i;
      insert into composite select i % 50, date '2024-01-01' + i % 365, 'n' || i, 'text ' || i from generate_series(1, ${ROWS}) i;
      select embedd.watch('simple', '{body}'), embedd.watch('composite', '{body}')`);
    await db.query("analyze simple; analyze composite");
    const { pipelines } = await loadPipelines(db.pool);
    const find = (name: string) => {
      const pipeline = pipelines.find((p) => p.relation === `public.${name}`);
      if (pipeline === undefined) throw new Error(`${name} is not watched`);
      return pipeline;
    };
    simple = find("simple");
    composite = find("composite");
  });

  it("a claim reads the index of pending rows in its order, from the cursor on", async () => {
    for (const [pipeline, cursor] of [
      [simple, ["500"]],
      [composite, ["7", "2024-03-01", "n7"]],
    ] as const) {
      for (const from of [null, cursor]) {
        const { text, values } = pendingStatement(pipeline, {
          model: "model",
          worker: 1,
          leaseMs: 15_000,
          oldest: 448,
          newest: 64,
          maxChars: 65_536,
          maxClaimChars: 4_000_000,
          cursor: from === null ? null : [...from],
        });
        const plan = await explain(text, values, "pg_catalog");
        expect(plan).toMatch(
          new RegExp(
            `Index Only Scan using embedd_${pipeline.id}_pending|Index Scan using embedd_${pipeline.id}_pending`,
          ),
        );
        expect(plan).not.toMatch(/Seq Scan on (simple|composite)/);
        expect(plan).not.toMatch(/Sort Key: t(_\d+)?\.(?!ctid)/);
      }
    }
  });

  it("a claim of stale rows finds them by the primary key", async () => {
    for (const [pipeline, key] of [
      [simple, ["500"]],
      [composite, ["7", "2024-03-01", "n7"]],
    ] as const) {
      const { text, values } = staleStatement(pipeline, {
        worker: 1,
        leaseMs: 15_000,
        maxChars: 65_536,
        maxClaimChars: 4_000_000,
        kind: "stale",
        model: "model",
        keys: Array.from({ length: 512 }, () => [...key]),
      });
      const plan = await explain(text, values, "pg_catalog");
      expect(plan).toMatch(/Index Scan using (simple|composite)_pkey/);
      expect(plan).not.toMatch(/Seq Scan on (simple|composite)/);
    }
  });

  it("reading the texts of a claim finds its rows by their keys", async () => {
    for (const [pipeline, key] of [
      [simple, ["500"]],
      [composite, ["7", "2024-03-01", "n7"]],
    ] as const) {
      const keys = Array.from({ length: 512 }, () => ({ key: [...key] }));
      const { text, values } = readStatement(pipeline, keys, {
        kind: "pending",
        model: "model",
        maxChars: 65_536,
      });
      const plan = await explain(text, values);
      expect(plan).toMatch(/Index Scan using ((simple|composite)_pkey|embedd_\d+_pending)/);
      expect(plan).not.toMatch(/Seq Scan on (simple|composite)/);
    }
  });

  it("a completion finds its rows by the primary key", async () => {
    for (const [pipeline, key] of [
      [simple, ["500"]],
      [composite, ["7", "2024-03-01", "n7"]],
    ] as const) {
      const row = { keyText: "", key: [...key], hash: Buffer.alloc(32), embedding: hashVector("x") };
      const rows = Array.from({ length: 512 }, () => row);
      const completion = { kind: "pending", leaseId: "1", model: "model", rows } as const;
      const { text, values } = completeStatement(pipeline, completion);
      const plan = await explain(text, values);
      expect(plan).toMatch(/Index Scan using (simple|composite)_pkey/);
      expect(plan).not.toMatch(/Seq Scan on (simple|composite)/);
    }
  });

  it.each(["simple", "composite", "edited"])(
    "a new row is embedded within 8 batches of a long backlog: %s",
    async (kind) => {
      const batches: number[] = [];
      const table = kind === "composite" ? "composite" : "simple";
      const held: (() => void)[] = [];
      let holding = true;
      const release = () => {
        for (const letGo of held.splice(0)) letGo();
      };
      const inner = hashProvider();
      const slow = {
        ...inner,
        concurrency: 1,
        embed: async (texts: readonly string[]) => {
          if (holding) await new Promise<void>((resolve) => held.push(resolve));
          return inner.embed(texts);
        },
      };
      const { rows: first } = await db.query<{ id: string }>(
        "select min(id) as id from simple where embedding is not null",
      );
      const worker = await startTestWorker(db, slow, {
        maxBatchRows: 100,
        onBatch: (pipeline, outcome) => {
          if (pipeline.relation === `public.${table}`) batches.push(outcome.written);
        },
      });
      // Only this table is served.
      await db.query("update embedd.pipelines set paused = relation <> $1::regclass", [table]);
      const step = async () => {
        const before = batches.length;
        await waitFor(
          () => {
            release();
            return batches.length > before;
          },
          { what: "a batch", intervalMs: 5 },
        );
      };
      for (let i = 0; i < 8; i++) await step();
      const fresh =
        kind === "simple"
          ? "insert into simple (body) values ('fresh') returning 1"
          : kind === "composite"
            ? "insert into composite values (25, '2024-06-01', 'fresh', 'fresh') returning 1"
            : `update simple set body = 'fresh edit' where id = ${first[0]?.id ?? "1"} returning 1`;
      expect((await db.query(fresh)).rowCount).toBe(1);
      // Some are claimed already, and a step can release several.
      const before = batches.length;
      while (
        (await db.query(`select from ${table} where body like 'fresh%' and embedding is null`)).rowCount !== 0
      ) {
        await step();
        expect(batches.length - before).toBeLessThanOrEqual(8);
      }
      holding = false;
      release();
      await worker.stop();
      await db.query(
        "update embedd.pipelines set paused = false; delete from simple where body like 'fresh%'; delete from composite where body = 'fresh'",
      );
    },
  );
});
