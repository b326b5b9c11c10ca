import { describe, expect, it } from "vitest";
import { EmbeddError } from "#embedd/errors.js";
import type { Provider } from "#embedd/providers/provider.js";
import { useDatabase } from "../../../helpers/database.js";
import { hashProvider } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();

const pending = async (source: string) =>
  (await db.query("select from embedd.chunks where source = $1 and embedding is null", [source])).rowCount;

const failures = async () =>
  (
    await db.query<{ key: string; attempts: number; code: string; error: string; dead: boolean }>(
      "select key, attempts, code, error, dead from embedd.failures order by key",
    )
  ).rows;

/** Refuses a batch for one bad text, as an API does. */
function picky(): Provider {
  const inner = hashProvider();
  return {
    ...inner,
    embed: (texts) =>
      texts.some((text) => text.includes("poison"))
        ? Promise.reject(new EmbeddError("input refused", { kind: "row", code: "refused_input" }))
        : inner.embed(texts),
  };
}

describe("a row that cannot be embedded", () => {
  it("is charged alone, retried, dead after its last attempt, and pending again with a new text", async () => {
    await db.query(
      "insert into embedd.chunks (source, content) select 'a', case when i = 33 then 'poison' else 'good ' || i end from generate_series(1, 64) i",
    );
    await startTestWorker(db, picky(), { maxAttempts: 2, retryDelayMs: 10 });
    await waitFor(async () => (await failures())[0]?.dead, { what: "the row to be dead" });
    expect(await pending("a")).toBe(1);
    expect(await failures()).toEqual([
      { key: "33", attempts: 2, code: "refused_input", error: "input refused", dead: true },
    ]);
    expect((await db.query("select dead::int, pending::int from embedd.status")).rows).toEqual([
      { dead: 1, pending: 0 },
    ]);
    await db.query("update embedd.chunks set content = 'antidote' where content = 'poison'");
    await waitFor(async () => (await pending("a")) === 0, { what: "the repaired row" });
    expect(await failures()).toEqual([]);
  });

  it("because the table refuses it does not block the others", async () => {
    await db.query(`
      create function no_seven() returns trigger language plpgsql as $$
        begin if new.content = 'seven' then raise exception 'no %', new.content; end if; return new; end $$;
      create trigger no_seven before update on embedd.chunks for each row execute function no_seven();
      insert into embedd.chunks (source, content) values ('b', 'six'), ('b', 'seven'), ('b', 'eight')`);
    await startTestWorker(db, hashProvider(), { maxAttempts: 1 });
    await waitFor(async () => (await failures())[0]?.dead, { what: "the refused row to be dead" });
    expect(await pending("b")).toBe(1);
    // The server's message quotes the row, so it is not repeated.
    expect(await failures()).toMatchObject([
      { code: "P0001", error: "the table refused the UPDATE: trigger no_seven (function no_seven())" },
    ]);
    await db.query(
      "drop trigger no_seven on embedd.chunks; update embedd.chunks set content = '7' where content = 'seven'",
    );
    await waitFor(async () => (await pending("b")) === 0, { what: "the row after its trigger went" });
  });

  it("loses its entry in embedd.failures when it is deleted", async () => {
    await db.query("insert into embedd.chunks (source, content) values ('c', 'poison')");
    await startTestWorker(db, picky(), { retryDelayMs: 10 });
    await waitFor(async () => (await failures()).length === 1, { what: "the failure" });
    await db.query("delete from embedd.chunks where source = 'c'");
    await waitFor(async () => (await failures()).length === 0, { what: "the failure to be forgotten" });
  });

  it("loses its entry also when it is dead and then deleted or blanked, and other rows keep theirs", async () => {
    await db.query(`insert into embedd.chunks (source, position, content)
      values ('dead', 1, 'poison 1'), ('dead', 2, 'poison 2'), ('dead', 3, 'poison 3')`);
    await startTestWorker(db, picky(), { maxAttempts: 1 });
    await waitFor(async () => (await failures()).filter(({ dead }) => dead).length === 3, {
      what: "three dead rows",
    });
    await db.query(`delete from embedd.chunks where source = 'dead' and position = 1;
      update embedd.chunks set content = ' ' where source = 'dead' and position = 2;
      insert into embedd.chunks (source, content) values ('dead', 'wakes the worker')`);
    await waitFor(async () => (await failures()).length === 1, { what: "two failures to be forgotten" });
    expect(await failures()).toMatchObject([{ code: "refused_input", dead: true }]);
    await db.query("delete from embedd.chunks where source = 'dead'; delete from embedd.failures");
  });
});

describe("a provider's fault", () => {
  it("charges no row, and all rows are embedded afterwards", async () => {
    const inner = hashProvider();
    let down = 3;
    const flaky: Provider = {
      ...inner,
      embed: (texts) =>
        down-- > 0
          ? Promise.reject(
              new EmbeddError("503", { kind: "provider", code: "unavailable", retryAfterMs: 20 }),
            )
          : inner.embed(texts),
    };
    await db.query(
      "insert into embedd.chunks (source, content) select 'd', 'text ' || i from generate_series(1, 10) i",
    );
    await startTestWorker(db, flaky);
    await waitFor(async () => (await pending("d")) === 0, { what: "the rows after the fault" });
    expect(await failures()).toEqual([]);
    expect(down).toBeLessThan(0);
  });
});
