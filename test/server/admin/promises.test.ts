import { beforeEach, expect, it, onTestFinished } from "vitest";
import { abortSwitch } from "#embedd/admin/switch-model/abort.js";
import { withOwnerClient } from "#embedd/database/pool.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { waitFor } from "../../helpers/wait.js";
import { createRole } from "../../helpers/watched-table.js";

const db = useDatabase();
let pipeline = 0;

async function one<T>(sql: string, params: unknown[] = []): Promise<T | undefined> {
  const { rows } = await db.query<{ value: T }>(`select (${sql}) as value`, params);
  return rows[0]?.value;
}

describeServer("a watched table of three embedded rows", () => {
  beforeEach(async () => {
    await db.query(`create table docs (id int primary key, body text, embedding vector(3), embedding_model text);
      insert into docs select i, 'text ' || i, '[1,2,3]', 'old' from generate_series(1, 3) i`);
    pipeline = (await one<number>("embedd.watch('docs', '{body}', existing => 'keep')")) ?? 0;
    await db.query("update embedd.pipelines set served_model = 'old' where id = $1", [pipeline]);
    onTestFinished(async () => {
      await db.query(
        "drop table docs; delete from embedd.pipelines where relation <> 'embedd.chunks'::regclass",
      );
    });
  });

  it("shows why its worker waits, until the wait is over", async () => {
    const waits = (until: string) =>
      db.query(
        "update embedd.pipelines set wait_reason = 'quota', wait_until = now() + $2::interval where id = $1",
        [pipeline, until],
      );
    const reason = () => one("select wait_reason from embedd.status where pipeline_id = $1", [pipeline]);
    await waits("1 h");
    expect(await reason()).toBe("quota");
    await waits("-1 s");
    expect(await reason()).toBeNull();
  });

  it("counts no dead row as pending", async () => {
    await db.query("update docs set embedding = null where id = 1");
    await db.query(
      "insert into embedd.failures (pipeline_id, key, content_hash, code, error, next_attempt_at, dead) values ($1, '1', '', 'too_long', '', now(), true)",
      [pipeline],
    );
    expect(
      await one("select array[pending, dead] from embedd.status where pipeline_id = $1", [pipeline]),
    ).toEqual(["0", "1"]);
  });

  it("has a gap while its triggers ignore replicated changes", async () => {
    const gap = () => one("select embedd.find_gap(p) from embedd.pipelines p where id = $1", [pipeline]);
    expect(await gap()).toBeNull();
    await db.query(`alter table docs enable trigger zzz_embedd_${pipeline}__before_edit`);
    expect(await gap()).toMatch(/^triggers were disabled: before_edit/);
  });

  it("loses every index of embedd's when it is unwatched", async () => {
    await db.query(`create index embedd_${pipeline}_vector on docs using hnsw (embedding vector_cosine_ops)`);
    await db.query("select embedd.unwatch('docs')");
    expect(
      (
        await db.query(
          "select indexrelid::regclass::text as name from pg_index where indrelid = 'docs'::regclass",
        )
      ).rows,
    ).toEqual([{ name: "docs_pkey" }]);
  });

  it("gives a worker's role what it writes in embedd's tables", async () => {
    const { role } = await createRole(db);
    await db.query("select embedd.grant_worker($1)", [role]);
    for (const column of ["error", "served_model", "wait_reason", "wait_until", "reembed", "refresh_cursor"])
      expect(
        await one("has_column_privilege($1, 'embedd.pipelines', $2, 'UPDATE')", [role, column]),
        column,
      ).toBe(true);
    for (const table of ["leases", "failures", "usage", "vectors", "locks", "heartbeats", "refresh_windows"])
      expect(
        await one(
          "has_table_privilege($1, 'embedd.' || $2::text, 'INSERT') and has_table_privilege($1, 'embedd.' || $2::text, 'DELETE')",
          [role, table],
        ),
        table,
      ).toBe(true);
    expect(await one("has_column_privilege($1, 'docs', 'body', 'UPDATE')", [role])).toBe(false);
  });

  describeServer("that is switched to another model", () => {
    let shadow = 0;
    beforeEach(async () => {
      shadow = (await one<number>("embedd.begin_switch('docs', 'embedding', 'new', 4, null, false)")) ?? 0;
    });
    const finish = (maxBehind: number, force = false) =>
      db.query("select embedd.finish_switch($1, $2, $3, true)", [shadow, maxBehind, force]);

    it("is checked again under the lock: rows behind", async () => {
      await expect(finish(2)).rejects.toThrow(/too many rows/);
      await finish(3);
    });

    it("is checked again under the lock: dead rows", async () => {
      await db.query(
        "insert into embedd.failures (pipeline_id, key, content_hash, code, error, next_attempt_at, dead) values ($1, '1', '', 'too_long', '', now(), true)",
        [shadow],
      );
      await expect(finish(3)).rejects.toThrow(/1 rows .* could not be embedded/);
      await finish(3, true);
    });

    it("is aborted while a worker builds its index, which is canceled", async () => {
      const builder = await db.pool.connect();
      onTestFinished(() => {
        builder.release(true);
      });
      await builder.query("select embedd.take_job($1, 'index')", [shadow]);
      const building = builder
        .query("begin; lock table docs in share update exclusive mode; select pg_sleep(600)")
        .catch(async (error: unknown) => {
          await builder.query("rollback");
          return error;
        });
      await waitFor(
        async () =>
          ((
            await db.query(
              "select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()",
            )
          ).rowCount ?? 0) > 0,
        { what: "the build" },
      );
      await withOwnerClient(db.url, (client) =>
        abortSwitch(client, { relation: "docs", embedding: "embedding" }),
      );
      expect(await building).toMatchObject({ code: "57014" });
    });
  });
});
