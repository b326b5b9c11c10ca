import { afterEach, expect, it } from "vitest";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { hashProvider } from "../../../helpers/providers.js";
import { waitFor } from "../../../helpers/wait.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();
const ROWS = 64;

/** A table that refuses every vector. A sequence keeps counting although the statements fail. */
const refusing = (count: string): string => `
create table docs (id int primary key, body text, embedding vector(384), embedding_model text);
create sequence counted;
create function refuse() returns trigger language plpgsql as $$
begin
  ${count}
  raise exception 'refused';
end $$;
create trigger refuse before update on docs for each row execute function refuse();
select embedd.watch('docs', '{body}');
insert into docs select i, 'text ' || i from generate_series(1, ${ROWS}) i`;

const counted = async (): Promise<number> =>
  (
    await db.query<{ n: number }>(
      "select case when is_called then last_value::int else 0 end as n from counted",
    )
  ).rows[0]?.n ?? NaN;

/** Counts the connections that reach it. A session's lock outlives a failed statement, and so does a sequence. */
const COUNT_CONNECTION = `
  if not exists (select from pg_locks where locktype = 'advisory' and classid = 4242 and pid = pg_backend_pid()) then
    perform pg_advisory_lock(4242, nextval('counted')::int);
  end if;`;

/** Half of the table's rows cannot be read, because the cast of their text raises. */
const unreadable = `
create type secret as (word text);
create sequence counted;
create function secret_text(secret) returns text language plpgsql immutable strict as $$
begin
  if $1.word like 'bad%' then
    ${COUNT_CONNECTION}
    raise exception using errcode = '22012';
  end if;
  return $1.word;
end $$;
create cast (secret as text) with function secret_text(secret);
create table docs (id int primary key, body secret, embedding vector(384), embedding_model text);
select embedd.watch('docs', '{body}');
insert into docs select i, row('bad ' || i)::secret from generate_series(1, ${ROWS}) i;
insert into docs select i, row('good ' || i)::secret from generate_series(${ROWS + 1}, ${2 * ROWS}) i`;

describeServer("a table with many bad rows", () => {
  afterEach(() =>
    db.query(`select embedd.unwatch('docs');
      drop table docs;
      drop sequence counted;
      drop function if exists refuse;
      drop type if exists secret cascade`),
  );

  it.each([
    ["refuses", refusing(COUNT_CONNECTION)],
    ["cannot be read", unreadable],
  ])("costs no connection per row if it %s", async (_, setup) => {
    await db.query(setup);
    const maxConnections = 5;
    const worker = await startTestWorker(db, hashProvider(), { maxConnections });
    const failures = async () => (await db.query("select from embedd.failures")).rowCount === ROWS;
    await waitFor(failures, { what: "every bad row to be charged" });
    await worker.stop();
    expect(await counted()).toBeLessThanOrEqual(maxConnections);
  });

  it("does not keep a worker that stops from releasing its leases", async () => {
    await db.query(refusing("perform nextval('counted'), pg_sleep(1);"));
    const worker = await startTestWorker(db, hashProvider());
    await waitFor(async () => (await counted()) > 0, { what: "the first refusal" });
    // Isolating every row would take longer: two statements per row, each at least 1 s.
    await worker.stop({ deadlineMs: 60_000 });
    expect((await db.query("select from embedd.leases")).rowCount).toBe(0);
  });
});
