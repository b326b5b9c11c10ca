import pg from "pg";
import { expect, it, onTestFinished, vi } from "vitest";
import { describeServer, useDatabase } from "../helpers/database.js";
import { hashProvider } from "../helpers/providers.js";
import { connectWriter, createRole, expectVectors, watchTable } from "../helpers/watched-table.js";
import { startTestWorker } from "../helpers/worker.js";

const db = useDatabase();

const WARM_UP_MS = 3_000;
const FLOOD_MS = 4_000;

/** Statements that the worker of this process sends; the test's own do not count. */
function countStatements(): () => number {
  let count = 0;
  const query = pg.Client.prototype.query as (...args: unknown[]) => unknown;
  const spy = vi.spyOn(pg.Client.prototype, "query").mockImplementation(function (
    this: pg.Client,
    ...args: unknown[]
  ) {
    const { application_name: name } = (
      this as unknown as { connectionParameters: { application_name: string } }
    ).connectionParameters;
    if (name.startsWith("embedd ")) count++;
    return query.apply(this, args);
  });
  onTestFinished(() => {
    spy.mockRestore();
  });
  return () => count;
}

describeServer("notifications that a stranger forges", () => {
  it.each([
    ["for a pipeline", 40, (id: number) => String(id)],
    ["of changed pipelines", 15, () => "pipelines"],
  ])(
    "%s make a worker send at most %i statements a second, and keep no row waiting",
    async (_, most, payload) => {
      const { url } = await createRole(db);
      const stranger = await connectWriter(url);
      const sent = countStatements();
      const worker = await startTestWorker(db, hashProvider());
      const relation = `docs_${most}`;
      const id = await watchTable(db, { relation });
      await worker.idle();
      const forge = async (forMs: number): Promise<number> => {
        const [started, before] = [performance.now(), sent()];
        while (performance.now() - started < forMs)
          await stranger.query("select pg_notify('embedd', $1)", [payload(id)]);
        return ((sent() - before) * 1_000) / (performance.now() - started);
      };
      await forge(WARM_UP_MS);
      expect(await forge(FLOOD_MS)).toBeLessThan(most);
      const flood = forge(FLOOD_MS);
      await db.query(`insert into ${relation} values (1, 'a row')`);
      await expectVectors(db, relation, { 1: "a row" });
      await flood;
      await db.query(`insert into ${relation} values (2, 'after the flood')`);
      await expectVectors(db, relation, { 1: "a row", 2: "after the flood" });
    },
  );
});
