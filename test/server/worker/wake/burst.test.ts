import pg from "pg";
import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { hashProvider } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();
const CLIENTS = 8;
const ROWS = 5_000;

describeServer("a burst of single-row transactions without a poll", () => {
  it(`of ${ROWS} rows by ${CLIENTS} connections is embedded completely, with few notifications`, async () => {
    const counter = new pg.Client({ connectionString: db.url, application_name: "test counter" });
    await counter.connect();
    let notifications = 0;
    counter.on("notification", () => notifications++);
    await counter.query("listen embedd");
    const written = new Map<string, number>();
    const worker = await startTestWorker(db, hashProvider(), {
      onBatch: (_, outcome) => written.set("rows", (written.get("rows") ?? 0) + outcome.written),
    });
    await worker.idle();
    await Promise.all(
      Array.from({ length: CLIENTS }, async (_, c) => {
        const client = new pg.Client({ connectionString: db.url, application_name: "test writer" });
        await client.connect();
        for (let i = 0; i < ROWS / CLIENTS; i++) {
          await client.query("insert into embedd.chunks (source, position, content) values ($1, $2, $3)", [
            `client ${c}`,
            i,
            `row ${i} of client ${c}`,
          ]);
        }
        await client.end();
      }),
    );
    await waitFor(
      async () => {
        const { rows } = await db.query<{ n: number }>(
          "select count(*)::int as n from embedd.chunks where embedding is null",
        );
        return rows[0]?.n === 0 || undefined;
      },
      { what: "the last vector" },
    );
    await counter.query("select 1");
    await counter.end();
    expect(written.get("rows")).toBe(ROWS);
    expect(notifications).toBeGreaterThan(0);
    // One per row would be too many; a busy machine's writers are slow, so the worker falls asleep between them.
    expect(notifications).toBeLessThan(ROWS / 5);
  });

  it("is embedded across idle moments, one row at a time", async () => {
    await startTestWorker(db, hashProvider());
    for (let i = 0; i < 100; i++) {
      const { rows } = await db.query<{ id: string }>(
        "insert into embedd.chunks (source, content) values ('single', $1) returning id",
        [`single ${i}`],
      );
      await waitFor(
        async () => {
          const found = await db.query("select from embedd.chunks where id = $1 and embedding is not null", [
            rows[0]?.id,
          ]);
          return found.rowCount === 1 || undefined;
        },
        { what: `row ${i}`, intervalMs: (i * 7) % 23 },
      );
    }
  });
});
