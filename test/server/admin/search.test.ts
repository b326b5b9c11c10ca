import pg from "pg";
import { beforeAll, expect, it, onTestFinished } from "vitest";
import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import type { SearchResult } from "#embedd/admin/search.sql.js";
import { searchRows } from "#embedd/admin/search.sql.js";
import { describeServer, useDatabase } from "../../helpers/database.js";

const db = useDatabase();

/** With the index, as the planner searches a large table. */
async function openSearch(settings = ""): Promise<(model: string, limit: number) => Promise<SearchResult[]>> {
  const pool = new pg.Pool({
    connectionString: db.url,
    options: `-c enable_seqscan=off -c enable_bitmapscan=off ${settings}`,
  });
  onTestFinished(() => pool.end());
  const { pipelines } = await loadPipelines(pool);
  const pipeline = pipelines.find(({ relation }) => relation === "public.mix");
  if (pipeline === undefined) throw new Error("not watched");
  return (model, limit) =>
    searchRows(pool, pipeline, model, new Float32Array([1, 0, 0]), { limit, maxChars: 10 });
}

describeServer("search in an indexed column of two models", () => {
  beforeAll(async () => {
    // All old vectors are nearer to the query than the new ones.
    await db.query(`
      create table mix (id int primary key, body text, embedding vector(3), embedding_model text);
      insert into mix select i, 'text', case when i <= 30 then array[-1, i * 0.01, 0] else array[1, i * 0.0001, 0] end::vector,
        case when i <= 30 then 'new' else 'old' end from generate_series(1, 4000) i;
      create index mix_hnsw on mix using hnsw (embedding vector_cosine_ops);
      select embedd.watch('mix', '{body}', existing => 'keep')`);
    await db.query("analyze mix");
  });

  it("finds the few rows of the new model", async () => {
    const search = await openSearch();
    const found = await search("new", 5);
    expect(found.map(({ key }) => key)).toEqual(["30", "29", "28", "27", "26"]);
  });

  it("finds all of them when the index scan ends early, and none for an unknown model", async () => {
    const search = await openSearch("-c hnsw.max_scan_tuples=100");
    expect(await search("new", 5)).toHaveLength(5);
    expect(await search("new", 50)).toHaveLength(30);
    expect(await search("neither", 5)).toEqual([]);
  });
});
