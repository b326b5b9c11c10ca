import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { readStatus } from "#embedd/admin/status.sql.js";
import { spawnCli } from "../../helpers/cli.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { createRole } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

async function watched(relation: string): Promise<void> {
  await db.query(`create table ${relation} (id int primary key, tenant int, body text,
      embedding vector(384), embedding_model text);
    select embedd.watch('${relation}', '{body}');
    insert into ${relation} values (1, 1, 'one'), (2, 2, 'two')`);
  onTestFinished(async () => {
    await db.query(`select embedd.unwatch('${relation}'); drop table ${relation}`);
  });
}

async function connect(url = db.url): Promise<pg.Client> {
  const client = new pg.Client(url);
  await client.connect();
  onTestFinished(() => client.end());
  return client;
}

const statusOf = async (client: pg.ClientBase, relation: string) =>
  (await readStatus(client)).find((s) => s.relation === relation);

/** What makes a table unreadable for a role; returns how to undo it. */
type Break = (role: string) => Promise<() => Promise<unknown>>;

const SICK: [name: string, error: RegExp, breakIt: Break][] = [
  [
    "that an application has locked exclusively",
    /^counts unavailable: another transaction holds its table locked$/,
    async () => {
      const locker = await connect();
      await locker.query("begin; lock table sick");
      return () => locker.query("rollback");
    },
  ],
  [
    "with a row that a function cannot read",
    /^counts unavailable: reading its table failed with SQLSTATE 22023 in public\.broken\(text\)$/,
    async (role) => {
      await db.query(`create function broken(t text) returns boolean language plpgsql as $$
          begin raise exception using errcode = '22023', message = 'unreadable: ' || t; end $$;
        alter table sick enable row level security;
        create policy own on sick to ${role} using (broken(body))`);
      return () => db.query("drop policy own on sick; drop function broken(text)");
    },
  ],
  [
    "whose policy needs a setting that is not there",
    /^counts unavailable: reading its table failed with SQLSTATE 42704$/,
    async (role) => {
      await db.query(`alter table sick enable row level security;
        create policy own on sick to ${role} using (tenant = current_setting('app.tenant')::int)`);
      return () => db.query("drop policy own on sick");
    },
  ],
  [
    "that the role may not read",
    /^counts unavailable: role \w+ may not read its columns/,
    async (role) => {
      await db.query(`revoke select (body) on sick from ${role}`);
      return () => db.query(`grant select (body) on sick to ${role}`);
    },
  ],
];

describeServer("embedd.status counts every other table when there is one", () => {
  it.each(SICK)("%s", async (_, error, breakIt) => {
    const { role, url } = await createRole(db);
    await db.query(`select embedd.grant_worker('${role}')`);
    await watched("sick");
    await watched("well");
    const undo = await breakIt(role);
    const client = await connect(url);
    expect(await statusOf(client, "well")).toMatchObject({ pending: 2, error: null });
    const sick = await statusOf(client, "sick");
    expect(sick).toMatchObject({ pending: null, done: null, stale: null });
    expect(sick?.error).toMatch(error);
    const { stdout } = await spawnCli(["status"], { env: { DATABASE_URL: url } }).exited;
    expect(stdout).toMatch(/sick\.embedding .*\n {2}error {5}counts unavailable: .*\n {2}pending {3}\?/);
    expect(stdout).not.toContain("unreadable: one");
    await undo();
  });
});

describeServer("row-level security", () => {
  const policies: [name: string, policy: string, hidden: RegExp | null][] = [
    ["without a policy", "select", /^row-level security hides its rows from role/],
    [
      "with a policy for PUBLIC on a tenant setting",
      "create policy tenant on secured using (tenant = nullif(current_setting('app.tenant', true), '')::int)",
      /^a row-level security policy for PUBLIC may hide its rows from role (\w+): ALTER ROLE \1 BYPASSRLS/,
    ],
    [
      "with a policy that lets the role read only",
      "create policy reads on secured for select to ROLE using (true)",
      /hides its rows/,
    ],
    [
      "with a policy for the role and a restrictive one for PUBLIC",
      `create policy own on secured to ROLE using (true);
       create policy narrow on secured as restrictive using (tenant = 1)`,
      /for PUBLIC may hide its rows/,
    ],
    [
      "with a policy for PUBLIC and one for the role",
      `create policy tenant on secured using (tenant = nullif(current_setting('app.tenant', true), '')::int);
       create policy own on secured to ROLE using (true)`,
      null,
    ],
  ];
  it.each(policies)("%s", async (_, policy, hidden) => {
    const { role, url } = await createRole(db);
    await watched("secured");
    await db.query(
      `alter table secured enable row level security; select embedd.grant_worker('${role}');
       ${policy === "select" ? "" : policy.replaceAll("ROLE", role)}`,
    );
    const client = await connect(url);
    const before = await statusOf(client, "secured");
    const doctor = () => spawnCli(["doctor"], { env: { DATABASE_URL: url } }).exited;
    const worker = await startTestWorker(db, hashProvider(), { databaseUrl: url });
    if (hidden === null) {
      expect(before).toMatchObject({ pending: 2, error: null });
      await waitFor(async () => (await statusOf(client, "secured"))?.done === 2, { what: "the vectors" });
      expect((await doctor()).stdout).toContain("ok    secured.embedding:");
    } else {
      expect(before).toMatchObject({ pending: null });
      expect(before?.error).toMatch(hidden);
      // Whoever asks sees what keeps the worker from its rows.
      await waitFor(async () => hidden.test((await statusOf(client, "secured"))?.error ?? ""), {
        what: "the worker's error",
      });
      const { rows } = await db.query<{ error: string | null }>(
        "select error from embedd.pipelines where relation = 'secured'::regclass",
      );
      expect(rows[0]?.error).toMatch(hidden);
      expect((await doctor()).stdout).toMatch(/FAIL {2}secured\.embedding: row-level security/);
    }
    await worker.stop();
  });
});

describeServer("status without a worker", () => {
  const errors = async (name: string): Promise<(string | null)[]> =>
    (await readStatus(db.pool)).filter((s) => s.relation.endsWith(name)).map(({ error }) => error);

  it("says that a table or a column is gone, and what to type", async () => {
    await db.query(`create table lost (id int primary key, body text, embedding vector(384), embedding_model text);
      create table worn (like lost including all);
      select embedd.watch('lost', '{body}'), embedd.watch('worn', '{body}')`);
    expect([...(await errors("lost")), ...(await errors("worn"))]).toEqual([null, null]);
    await db.query("alter table worn rename column body to title");
    expect(await errors("worn")).toEqual([null]);
    await db.query("drop table lost; alter table worn drop column embedding cascade");
    expect(await errors("lost")).toEqual(["its table is gone; embedd unwatch public.lost"]);
    expect(await errors("worn")).toEqual([
      "a column that it needs is gone: embedding; add it again, then: embedd repair public.worn",
    ]);
    const { exited } = spawnCli(["status"], { env: { DATABASE_URL: db.url } });
    expect(await exited).toMatchObject({ code: 3 });
    await db.query("select embedd.unwatch('lost'), embedd.unwatch('worn')");
  });
});

describeServer("rows in flight", () => {
  it("are those that connected workers have claimed", async () => {
    const worker = await startTestWorker(db, hashProvider());
    await worker.idle();
    await watched("flown");
    // A worker that has not seen the new pipeline yet is idle too, and would claim these rows later.
    await waitFor(async () => (await db.query("select from flown where embedding is null")).rowCount === 0, {
      what: "the vectors of flown",
    });
    await worker.idle();
    const [flown] = (await readStatus(db.pool)).filter(({ relation }) => relation === "flown");
    const lease = async (owner: number, expiry: string): Promise<number | null | undefined> => {
      await db.query(
        `insert into embedd.leases (pipeline_id, worker, keys, expires_at) values ($1, $2, '{1,2}', now() + $3::interval)`,
        [flown?.pipeline, owner, expiry],
      );
      const status = await statusOf(await connect(), "flown");
      await db.query("delete from embedd.leases where pipeline_id = $1", [flown?.pipeline]);
      return status?.inFlight;
    };
    expect(await lease(worker.id, "1 hour")).toBe(2);
    expect(await lease(worker.id, "-1 s")).toBe(0);
    expect(await lease(2_000_000_000, "1 hour")).toBe(0);
  });
});

describeServer("embedd.chunks", () => {
  it("is listed once something has used it", async () => {
    const database = await db.createMigratedDatabase();
    const env = { DATABASE_URL: database.url };
    const status = async () => (await spawnCli(["status"], { env }).exited).stdout;
    expect(await status()).toMatch(/no table is watched/);
    expect(await status()).not.toContain("embedd.chunks");
    await database.query("insert into embedd.chunks (source, content) values ('s', 'text')");
    expect(await status()).toMatch(
      /embedd\.chunks\.embedding \(pipeline 1, a table that comes with embedd\)\n {2}pending {3}1/,
    );
  });
});
