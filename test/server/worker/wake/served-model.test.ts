import { expect, it } from "vitest";
import type { Logger } from "#embedd/logger.js";
import { silentLogger } from "#embedd/logger.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { hashProvider } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();

const state = async () =>
  (
    await db.query<{ model: string | null; worker: number | null; error: string | null }>(
      "select served_model as model, served_by as worker, error from embedd.pipelines where id = 1",
    )
  ).rows[0];

async function insertAndWait(text: string): Promise<string> {
  await db.query("insert into embedd.chunks (source, content) values ('x', $1)", [text]);
  return waitFor(
    async () =>
      (
        await db.query<{ model: string }>(
          "select embedding_model as model from embedd.chunks where content = $1 and embedding is not null",
          [text],
        )
      ).rows[0]?.model,
    { what: `the vector of ${text}` },
  );
}

/** Keeps warnings and errors, but not what a worker says of the tests' role. */
function listeningLogger(): Logger & { lines: string[] } {
  const lines: string[] = [];
  const keep = (_: unknown, line?: string) => {
    if (line?.includes("is a superuser") !== true) lines.push(line ?? "");
  };
  return {
    ...silentLogger,
    debug: () => undefined,
    info: () => undefined,
    warn: keep,
    error: keep,
    lines,
  };
}

describeServer("a pipeline that is pinned to no model", () => {
  it("warns the first worker if the vectors that came with the table are another model's", async () => {
    await db.query(
      `create table brought (id int primary key, body text, embedding vector(384), embedding_model text);
       insert into brought values (1, 'one', array_fill(0.5, array[384])::vector, 'elder');
       select embedd.watch('brought', '{body}', existing => 'keep')`,
    );
    const log = listeningLogger();
    const worker = await startTestWorker(db, hashProvider({ model: "old" }), { log });
    expect(log.lines).toEqual([
      expect.stringMatching(/^old takes over \S*brought from elder, .*embedd reembed/),
    ]);
    await worker.stop();
    await db.query("select embedd.unwatch('brought')");
  });

  it("stays with the model of the connected workers, and is taken over by another when the last is gone", async () => {
    const first = await startTestWorker(db, hashProvider({ model: "old" }));
    expect(await insertAndWait("one")).toBe("old");
    expect(await state()).toEqual({ model: "old", worker: first.id, error: null });

    const log = listeningLogger();
    const other = await startTestWorker(db, hashProvider({ model: "new" }), { log, takeoverMs: 1_000 });
    const third = await startTestWorker(db, hashProvider({ model: "old" }));
    // The waiting worker checks every second, and logs the reason once.
    await waitFor(() => log.lines.length > 0, { what: "the warning" });
    expect(await insertAndWait("two")).toBe("old");
    await first.stop();
    expect(await insertAndWait("three")).toBe("old");
    // served_by follows at the next check, at the latest when the last worker is gone.
    expect((await state())?.model).toBe("old");
    const lines = [...log.lines];
    expect(lines).toEqual([
      expect.stringMatching(
        /embedd\.chunks is served by worker \d+ with old; .*embedd switch-model embedd\.chunks --model new {2}# or stop/,
      ),
    ]);
    expect((await state())?.error).toBeNull();

    await third.stop();
    expect(await insertAndWait("four")).toBe("new");
    expect(log.lines).toContainEqual(
      expect.stringMatching(/^new takes over embedd\.chunks from old, .*embedd reembed/),
    );
    expect(await state()).toEqual({ model: "new", worker: other.id, error: null });
    await other.stop();
  });

  it("stays with a model whose workers are briefly away, by a restart of theirs or of the database", async () => {
    const log = listeningLogger();
    const first = await startTestWorker(db, hashProvider({ model: "old" }));
    expect(await insertAndWait("before")).toBe("old");
    const other = await startTestWorker(db, hashProvider({ model: "new" }), { log });
    await waitFor(() => log.lines.length > 0, { what: "the warning" });
    await first.stop();
    await db.query("insert into embedd.chunks (source, content) values ('x', 'meanwhile')");
    await waitFor(() => log.lines.some((line) => line.includes("within 3600 s, new takes over")), {
      what: "the reason",
    });
    const again = await startTestWorker(db, hashProvider({ model: "old" }));
    expect(await insertAndWait("after")).toBe("old");
    expect((await state())?.model).toBe("old");

    // Like a restart of the database; the waiting worker reconnects first.
    const { rows } = await db.query<{ pid: number }>(
      `select pid, pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name like 'embedd %'
       order by application_name = 'embedd presence', backend_start desc`,
    );
    expect(rows.length).toBeGreaterThan(3);
    const left = new Set(rows.map(({ pid }) => pid));
    await waitFor(
      async () => {
        const { rows: back } = await db.query<{ pid: number }>(
          "select pid from pg_stat_activity where datname = current_database() and application_name = 'embedd presence'",
        );
        return back.length === 2 && back.every(({ pid }) => !left.has(pid));
      },
      { what: "both workers to be back" },
    );
    expect(await insertAndWait("restarted")).toBe("old");
    // It says so when it next reads the pipelines, at most 200 ms after it reconnected.
    await waitFor(async () => (await state())?.worker === again.id, { what: "its new id" });
    expect(await state()).toEqual({ model: "old", worker: again.id, error: null });
    await other.stop();
    await again.stop();
  });

  it("gets no error from a worker whose dimensions do not fit, while another serves it", async () => {
    const fits = await startTestWorker(db, hashProvider({ model: "fits" }));
    const log = listeningLogger();
    const wide = await startTestWorker(db, hashProvider({ model: "wide", dimensions: 8 }), { log });
    await waitFor(() => log.lines.length > 0, { what: "the warning" });
    expect(await insertAndWait("five")).toBe("fits");
    expect((await state())?.error).toBeNull();
    await fits.stop();
    await waitFor(async () => (await state())?.error?.includes("makes 8 dimensions"), { what: "the error" });
    const again = await startTestWorker(db, hashProvider({ model: "fits" }));
    expect(await insertAndWait("six")).toBe("fits");
    await waitFor(async () => (await state())?.error === null, { what: "the error to go" });
    await wide.stop();
    await again.stop();
  });

  it("never has two models at once, in any order of ten workers", async () => {
    await db.query("update embedd.pipelines set served_model = null, served_by = null");
    const workers = await Promise.all(
      Array.from({ length: 10 }, (_, i) => startTestWorker(db, hashProvider({ model: `model ${i % 2}` }))),
    );
    await db.query(
      "insert into embedd.chunks (source, content) select 'race', 'race ' || i from generate_series(1, 500) i",
    );
    await waitFor(
      async () =>
        (await db.query("select from embedd.chunks where embedding is null limit 1")).rowCount === 0,
      { what: "the vectors" },
    );
    const { rows } = await db.query(
      "select distinct embedding_model from embedd.chunks where source = 'race'",
    );
    expect(rows).toHaveLength(1);
    await Promise.all(workers.map((worker) => worker.stop()));
  });
});
