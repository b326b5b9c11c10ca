import { expect, it } from "vitest";
import { loadPipelines } from "#embedd/sql/load-pipelines.js";
import { searchRows } from "#embedd/sql/search.js";
import { describeServer, useDatabase } from "../helpers/database.js";

const db = useDatabase();

describeServer("a search in a column with an HNSW index", () => {
  // More of the others than an index scan goes on to look at.
  it("finds the rows of a model behind 22,000 of another", async () => {
    const table = "mixed";
    await db.query(`create table ${table} (id int primary key, body text, embedding vector(3), embedding_model text);
      insert into ${table} select i, 'old', array[1, i / 30000.0, 0]::vector, 'old' from generate_series(1, 22000) i;
      insert into ${table} select -i, 'new', array[0, i / 30000.0, 1]::vector, 'new' from generate_series(1, 100) i;
      create index on ${table} using hnsw (embedding vector_cosine_ops) with (m = 4, ef_construction = 8);
      analyze ${table}`);
    await db.query("select embedd.watch($1, '{body}')", [table]);
    const pipeline = (await loadPipelines(db.pool)).pipelines.find(({ relation }) =>
      relation.endsWith(table),
    );
    if (pipeline === undefined) throw new Error("it is not watched");
    const query = new Float32Array([1, 0, 0]);
    const found = await searchRows(db.pool, pipeline, "new", query, { limit: 5, maxChars: 10 });
    expect(found).toHaveLength(5);
    expect(found.every(({ key }) => Number(key) < 0)).toBe(true);
  });
});
