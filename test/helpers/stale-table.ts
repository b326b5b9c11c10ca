import { beforeEach, expect } from "vitest";
import type { TestDatabase } from "./database.js";
import { hashProvider, hashVector, parseVector } from "./providers.js";
import { waitFor } from "./wait.js";
import { startTestWorker } from "./worker.js";

export interface TableOptions {
  rows: number;
  columns?: string;
  keys?: string;
  index?: boolean;
}

/** A watched table of stale rows for each test of a file, and queries that show what happened to its vectors. */
export function useStaleTable(db: TestDatabase) {
  let table = "";
  let number = 0;

  /** Creates the table: all rows have vectors of model `a`, and a trigger records each later update. */
  async function staleTable({
    rows,
    columns = "id int primary key",
    keys = "i",
    index = false,
  }: TableOptions) {
    table = `stale_${++number}`;
    await db.query(
      `create table ${table} (${columns}, body text, embedding vector(384), embedding_model text);
       insert into ${table} select ${keys}, 'text ' || i from generate_series(1, ${rows}) i`,
    );
    await db.query("select embedd.watch($1, '{body}')", [table]);
    const worker = await startTestWorker(db, hashProvider({ model: "a" }), { reuse: false });
    await worker.idle();
    await worker.stop();
    if (index) await db.query(`create index on ${table} using hnsw (embedding vector_cosine_ops)`);
    await db.query(`
      create table ${table}_audit (n int generated always as identity, body text, old_model text, new_model text, missing boolean);
      create function ${table}_audit() returns trigger language plpgsql as $$ begin
        insert into ${table}_audit (body, old_model, new_model, missing)
        values (new.body, old.embedding_model, new.embedding_model, new.embedding is null);
        return null; end $$;
      create trigger audit after update on ${table} for each row execute function ${table}_audit()`);
  }

  const requestReembed = () =>
    db.query("update embedd.pipelines set reembed = true where relation = $1::regclass", [table]);
  const flag = async () =>
    (
      await db.query<{ reembed: boolean }>(
        "select reembed from embedd.pipelines where relation = $1::regclass",
        [table],
      )
    ).rows[0]?.reembed;
  const untilReembedded = () =>
    waitFor(async () => (await flag()) === false, { what: "the flag to be cleared" });
  const models = async () =>
    (
      await db.query<{ model: string; n: number }>(
        `select embedding_model as model, count(*)::int as n from ${table} group by 1 order by 1`,
      )
    ).rows;
  const audit = async () =>
    (
      await db.query<{ n: number; bodies: number; missing: number }>(
        `select count(*)::int as n, count(distinct body)::int as bodies, count(*) filter (where missing)::int as missing from ${table}_audit`,
      )
    ).rows[0];

  async function expectRightVectors(): Promise<void> {
    const { rows } = await db.query<{ body: string; vector: string }>(
      `select body, embedding::text as vector from ${table}`,
    );
    for (const { body, vector } of rows) {
      const right = hashVector(body);
      expect(
        parseVector(vector).every((component, i) => Math.abs(component - (right[i] ?? NaN)) < 1e-6),
      ).toBe(true);
    }
  }

  beforeEach(async () => {
    if (table !== "") await db.query(`select embedd.unwatch('${table}')`);
    await db.query("delete from embedd.vectors");
    table = "";
  });

  return {
    get table() {
      return table;
    },
    staleTable,
    requestReembed,
    flag,
    untilReembedded,
    models,
    audit,
    expectRightVectors,
  };
}
