import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { claimPending } from "#embedd/worker/claim/claim.sql.js";
import { releaseLease } from "#embedd/worker/claim/leases.sql.js";
import { readRows } from "#embedd/worker/claim/read-rows.sql.js";
import { loadPipelines } from "#embedd/database/load-pipelines.sql.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { spawnCli } from "../../../helpers/cli.js";
import { waitFor } from "../../../helpers/wait.js";

const db = useDatabase();

/** A process's peak memory. */
async function peakMegabytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
}

const LONG = 100;
/** About a megabyte of words, different for each i. */
const longText = "repeat(md5(i::text) || ' and ' || i || ' more words of a very long text ', 15000)";

describeServer("a backlog of a million rows with texts of 1 MB among them", () => {
  it("is embedded in bounded memory, and a claim stays within its limit of characters", async () => {
    await db.query(`
      create table vast (id bigint primary key, title text, body text, embedding vector(384), embedding_model text);
      insert into vast select i, 'title ' || i, ${longText} from generate_series(1, ${LONG}) i;
      insert into vast select i, 'title ' || i, 'short text ' || i from generate_series(${LONG + 1}, 1000000) i;
      select embedd.watch('vast', '{title,body}');
      analyze vast`);
    const { rows } = await db.query<{ megabytes: number }>(
      "select min(octet_length(body)) / 1e6 as megabytes from vast where id <= $1",
      [LONG],
    );
    expect(Number(rows[0]?.megabytes)).toBeGreaterThan(0.99);

    const { pipelines } = await loadPipelines(db.pool);
    const vast = pipelines.find((p) => p.relation === "public.vast");
    if (vast === undefined) throw new Error("vast is not watched");
    const limits = { model: "m", oldest: 448, newest: 64, maxChars: 65_536, maxClaimChars: 1_000_000 };
    const claimed = await claimPending(db.pool, vast, {
      worker: 1,
      leaseMs: 60_000,
      cursor: null,
      ...limits,
    });
    const { rows: read } = await readRows(db.pool, vast, claimed?.keys ?? [], { kind: "pending", ...limits });
    expect(read).toHaveLength(claimed?.keys.length ?? 0);
    const lengths = read.map((row) => row.content.reduce((sum, text) => sum + (text ?? "").length, 0));
    expect(Math.max(...lengths)).toBeLessThanOrEqual(65_536 + 10);
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBeLessThanOrEqual(1_000_000);
    // Both ends have their share.
    expect(claimed?.keys.map((row) => Number(row.key[0])).slice(0, 3)).toEqual([1, 2, 3]);
    expect(claimed?.keys.filter((row) => Number(row.key[0]) > 999_000)).toHaveLength(64);
    await releaseLease(db.pool, claimed?.leaseId ?? "");

    const worker = spawnCli(["run"], { env: { DATABASE_URL: db.url, EMBEDD_LOG_FORMAT: "json" } });
    await waitFor(
      async () =>
        (await db.query("select from vast where id <= $1 and embedding is null", [LONG])).rowCount === 0,
      { timeoutMs: 400_000, what: "the long texts", intervalMs: 500 },
    );
    expect(await peakMegabytes(worker.child.pid ?? 0)).toBeLessThan(700);
    worker.child.kill("SIGTERM");
    expect(await worker.exited).toMatchObject({ code: 0 });
  }, 600_000);

  it("takes one row from each end, however long they are", async () => {
    const { pipelines } = await loadPipelines(db.pool);
    const vast = pipelines.find((p) => p.relation === "public.vast");
    if (vast === undefined) throw new Error("vast is not watched");
    const limits = { model: "m", oldest: 448, newest: 64, maxChars: 65_536, maxClaimChars: 1 };
    const claimed = await claimPending(db.pool, vast, {
      worker: 1,
      leaseMs: 60_000,
      cursor: null,
      ...limits,
    });
    const { rows } = await db.query<{ oldest: string; newest: string }>(
      `select (select min(id) from vast where embedding is null) as oldest, min(id) as newest
       from (select id from vast where embedding is null order by id desc limit 64) as fresh`,
    );
    expect(claimed?.keys.map((row) => row.key[0])).toEqual([rows[0]?.oldest, rows[0]?.newest]);
    await releaseLease(db.pool, claimed?.leaseId ?? "");
  });
});
