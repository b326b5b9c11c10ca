import { describe, expect, it } from "vitest";
import type { EmbedOptions } from "#embedd/providers/provider.js";
import { useDatabase } from "../../../helpers/database.js";
import { hashProvider, hashVector, heldProvider, parseVector } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();

async function vectorOf(source: string): Promise<number[] | undefined> {
  const { rows } = await db.query<{ embedding: string | null }>(
    "select embedding::text from embedd.chunks where source = $1",
    [source],
  );
  const text = rows[0]?.embedding;
  return text === null || text === undefined ? undefined : parseVector(text);
}

function expectVector(actual: number[] | undefined, text: string): void {
  const expected = hashVector(text);
  expect(actual).toHaveLength(expected.length);
  actual?.forEach((component, i) => expect(component).toBeCloseTo(expected[i] ?? NaN, 5));
}

describe("while a row's text is being embedded", () => {
  it("an edit wins: the old text's vector is never stored", async () => {
    await db.query(`
      create table seen (embedding text);
      create function note() returns trigger language plpgsql as $$
        begin if new.embedding is not null then insert into seen values (new.embedding::text); end if; return null; end $$;
      create trigger note after update on embedd.chunks for each row execute function note()`);
    const { provider, hold, release } = heldProvider(hashProvider());
    await startTestWorker(db, provider);
    const held = hold();
    await db.query("insert into embedd.chunks (source, content) values ('edit', 'old text')");
    expect(await held).toEqual(["old text"]);
    await db.query("update embedd.chunks set content = 'new text' where source = 'edit'");
    release();
    const vector = await waitFor(() => vectorOf("edit"), { what: "the new text's vector" });
    expectVector(vector, "new text");
    const { rows } = await db.query<{ embedding: string }>("select embedding from seen");
    expect(rows).toHaveLength(1);
    expectVector(parseVector(rows[0]?.embedding ?? "[]"), "new text");
    await db.query("drop trigger note on embedd.chunks");
  });

  it("a delete wins, and the worker keeps running", async () => {
    const { provider, hold, release } = heldProvider(hashProvider());
    await startTestWorker(db, provider);
    const held = hold();
    await db.query(
      "insert into embedd.chunks (source, content) values ('gone', 'to be deleted'), ('stays', 'to be kept')",
    );
    expect(await held).toHaveLength(2);
    await db.query("delete from embedd.chunks where source = 'gone'");
    release();
    await waitFor(() => vectorOf("stays"), { what: "the other row's vector" });
    expect((await db.query("select from embedd.chunks where source = 'gone'")).rowCount).toBe(0);
    await waitFor(async () => (await db.query("select from embedd.leases")).rowCount === 0 || undefined, {
      what: "the lease to go",
    });
  });

  it("a vector that the writer sets meanwhile is kept", async () => {
    const { provider, hold, release } = heldProvider(hashProvider());
    const worker = await startTestWorker(db, provider);
    const held = hold();
    await db.query("insert into embedd.chunks (source, content) values ('mine', 'my text')");
    await held;
    const mine = `[${hashVector("something else").join(",")}]`;
    await db.query(
      "update embedd.chunks set embedding = $1, embedding_model = 'mine' where source = 'mine'",
      [mine],
    );
    release();
    await worker.idle();
    expectVector(await vectorOf("mine"), "something else");
  });

  it("a stop finishes the batch in flight", async () => {
    const { provider, hold, release } = heldProvider(hashProvider());
    const worker = await startTestWorker(db, provider);
    const held = hold();
    await db.query("insert into embedd.chunks (source, content) values ('last', 'the last')");
    await held;
    const stopped = worker.stop();
    release();
    await stopped;
    expectVector(await vectorOf("last"), "the last");
    expect((await db.query("select from embedd.leases")).rowCount).toBe(0);
  });

  it("a stop at its deadline releases the batch in flight", async () => {
    const inner = hashProvider();
    const stuck = {
      ...inner,
      embed: (_texts: readonly string[], { signal }: EmbedOptions = {}) =>
        new Promise<Float32Array[]>((_, reject) => {
          signal?.addEventListener("abort", () => {
            reject(signal.reason as Error);
          });
        }),
    };
    const worker = await startTestWorker(db, stuck);
    await db.query("insert into embedd.chunks (source, content) values ('stuck', 'never ends')");
    await waitFor(async () => (await db.query("select from embedd.leases")).rowCount === 1 || undefined, {
      what: "the claim",
    });
    // An eighth is left to release the rows.
    await worker.stop({ deadlineMs: 20_000 });
    expect(await vectorOf("stuck")).toBeUndefined();
    expect((await db.query("select from embedd.leases")).rowCount).toBe(0);
  });
});
