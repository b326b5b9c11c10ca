import { expect, it } from "vitest";
import { watch } from "#embedd/admin/watch.js";
import { withOwnerClient } from "#embedd/database/pool.js";
import { describeServer, useDatabase } from "../../helpers/database.js";

const db = useDatabase();

describeServer("several embedd watch at once", () => {
  it("of one table all end well, although their index builds deadlock", async () => {
    const columns = [1, 2, 3, 4];
    await db.query(`create table docs (id int primary key, body text,
        ${columns.map((i) => `e${i} vector(3), e${i}_model text`).join(", ")});
      insert into docs select i, repeat('text ', 20) || i from generate_series(1, 20000) i`);
    await Promise.all(
      columns.map((i) =>
        withOwnerClient(db.url, (client) =>
          watch(client, { relation: "docs", content: ["body"], embedding: `e${i}` }),
        ),
      ),
    );
    const { rows } = await db.query(
      `select count(*)::int as indexes, bool_and(i.indisvalid) as valid
       from embedd.pipelines p
       join pg_class x on x.relname = embedd.pending_index_name(p.id)
       join pg_index i on i.indexrelid = x.oid
       where p.relation = 'docs'::regclass`,
    );
    expect(rows).toEqual([{ indexes: columns.length, valid: true }]);
  }, 300_000);
});
