import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

async function pending(): Promise<number> {
  const { rows } = await db.query<{ n: number }>(
    "select count(*)::int as n from embedd.chunks where embedding is null",
  );
  return rows[0]?.n ?? -1;
}

const allEmbedded = (what: string) =>
  waitFor(async () => ((await pending()) === 0 ? true : undefined), { what });

/** Counts the times that each row's embedding was written. */
async function auditWrites(): Promise<void> {
  await db.query(`
    create table if not exists writes (id bigint);
    create or replace function audit() returns trigger language plpgsql as $$
      begin if new.embedding is not null then insert into writes values (new.id); end if; return null; end $$;
    create or replace trigger audit after update of embedding on embedd.chunks for each row execute function audit()`);
}

async function expectWrittenOnce(): Promise<void> {
  const { rows } = await db.query<{ rows: number; writes: number; twice: number }>(`
    select (select count(*)::int from embedd.chunks) as rows, count(*)::int as writes,
      (count(*) - count(distinct id))::int as twice from writes`);
  expect(rows[0]).toEqual({ rows: rows[0]?.rows, writes: rows[0]?.rows, twice: 0 });
}

describeServer("several workers", () => {
  it("share a backlog and embed each row once", async () => {
    await auditWrites();
    await db.query(
      "insert into embedd.chunks (source, content) select 'shared', 'text ' || i from generate_series(1, 3000) i",
    );
    const taken = [0, 0];
    const providers = taken.map((_, i) => {
      const provider = hashProvider();
      const { embed } = provider;
      // Neither runs far ahead before both have their share: this tests that each takes rows, not how fast.
      provider.embed = async (texts) => {
        taken[i] = (taken[i] ?? 0) + texts.length;
        await waitFor(() => Math.min(...taken) > 300 || (taken[i] ?? 0) <= Math.min(...taken) + 200, {
          what: "the other worker to take rows",
          intervalMs: 1,
        });
        return embed(texts);
      };
      return provider;
    });
    await Promise.all(providers.map((provider) => startTestWorker(db, provider, { maxBatchRows: 50 })));
    await allEmbedded("3,000 rows by two workers");
    const texts = providers.flatMap((provider) => provider.texts);
    expect(texts).toHaveLength(3_000);
    expect(new Set(texts).size).toBe(3_000);
    for (const provider of providers) expect(provider.texts.length).toBeGreaterThan(300);
    await expectWrittenOnce();
  });

  it("finish the rows of a worker that was killed with kill -9", async () => {
    await auditWrites();
    await db.query(`insert into embedd.chunks (source, content)
      select 'killed', repeat('A sentence that takes the model a while to read. ', 12) || i from generate_series(1, 150) i`);
    const victim = spawnCli(["run"], { env: { DATABASE_URL: db.url, EMBEDD_LOG_FORMAT: "json" } });
    await waitFor(
      async () => {
        const { rows } = await db.query<{ done: number; leased: number }>(`
          select (select count(*)::int from embedd.chunks where source = 'killed' and embedding is not null) as done,
            (select count(*)::int from embedd.leases) as leased`);
        return (rows[0]?.done ?? 0) > 0 && (rows[0]?.leased ?? 0) > 0 ? true : undefined;
      },
      { what: "the first worker to be in the middle" },
    );
    victim.child.kill("SIGKILL");
    await victim.exited;
    expect(await pending()).toBeGreaterThan(0);
    const heir = spawnCli(["run", "--once"], { env: { DATABASE_URL: db.url, EMBEDD_LOG_FORMAT: "json" } });
    expect(await heir.exited).toMatchObject({ code: 0 });
    expect(await pending()).toBe(0);
    await expectWrittenOnce();
    expect((await db.query("select from embedd.leases")).rowCount).toBe(0);
  });

  it("notice without a poll when a sleeping worker dies", async () => {
    // The first sleeper has the gate; the second sleeps without it and must take over.
    const first = spawnCli(["run"], { env: { DATABASE_URL: db.url, EMBEDD_LOG_FORMAT: "json" } });
    await first.waitForLine(/"ready"/);
    const { rows } = await db.query<{ model: string }>("select served_model as model from embedd.pipelines");
    const sameModel = hashProvider({ model: rows[0]?.model ?? "" });
    const heir = await startTestWorker(db, sameModel);
    await heir.idle();
    first.child.kill("SIGKILL");
    await first.exited;
    await db.query("insert into embedd.chunks (source, content) values ('after', 'after the death')");
    await allEmbedded("the row after a sleeper's death");
  });
});
