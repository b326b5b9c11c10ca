import { expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { hashProvider } from "../../helpers/providers.js";
import { expectVectors } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

const embedd = async (url: string, ...args: string[]) => {
  const exit = await spawnCli(args, { env: { DATABASE_URL: url } }).exited;
  return { ...exit, out: `${exit.stdout}${exit.stderr}` };
};

describeServer("pgvector in a schema whose name needs quotes", () => {
  it("serves every command: migrate, watch, run, switch-model, unwatch", async () => {
    const { url, query } = await db.createDatabase();
    await query('create schema "shared-ext"; create extension vector schema "shared-ext"');
    const migrated = await embedd(url, "migrate");
    expect(migrated, migrated.out).toMatchObject({ code: 0 });
    await query(`create table docs (id int primary key, body text);
      insert into docs values (1, 'one')`);
    const watched = await embedd(
      url,
      "watch",
      "docs",
      "--content",
      "body",
      "--create-columns",
      "--index",
      "hnsw",
    );
    expect(watched, watched.out).toMatchObject({ code: 0 });
    const worker = await startTestWorker(db, hashProvider(), { databaseUrl: url, pollIntervalMs: 500 });
    await expectVectors({ query }, "docs", { 1: "one" });
    await query("update docs set body = 'two'");
    await expectVectors({ query }, "docs", { 1: "two" });
    await worker.idle();
    await worker.stop();
    await query(
      "select embedd.finish_switch(embedd.begin_switch('docs', 'embedding', 'new', 384, 'hnsw', true), 10, false, true)",
    );
    expect(await embedd(url, "repair", "docs")).toMatchObject({ code: 0 });
    expect(await embedd(url, "unwatch", "docs")).toMatchObject({ code: 0 });
    expect(await embedd(url, "uninstall")).toMatchObject({ code: 0 });
  });
});

describeServer("a command that lacks something", () => {
  async function asRole(): Promise<{ role: string; url: string }> {
    const role = `embedd_test_${Math.random().toString(36).slice(2, 12)}`;
    await db.query(`create role ${role} login`);
    onTestFinished(async () => {
      await db.query(`drop owned by ${role}; drop role ${role}`);
    });
    const url = new URL(db.url);
    url.username = role;
    return { role, url: url.href };
  }

  it("names the object that is denied, and who may do it", async () => {
    const { role, url } = await asRole();
    await db.query(
      `create table owned (id int primary key, body text, embedding vector(2), embedding_model text);
       insert into owned values (1, 'one')`,
    );
    expect(await embedd(url, "watch", "owned", "--content", "body")).toMatchObject({
      code: 2,
      stderr: expect.stringContaining(
        `permission denied for schema embedd\n  try: embedd grant --owner ${role}  # as `,
      ) as string,
    });
    await db.query(`grant usage on schema embedd to ${role};
      grant select, insert, update, delete on all tables in schema embedd to ${role}`);
    expect(await embedd(url, "watch", "owned", "--content", "body")).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /: permission denied for table owned\n {2}try: psql .* 'GRANT SELECT ON owned|: must be owner of table owned\n {2}try: export/,
      ) as string,
    });
  });

  it("names a missing object of embedd, and only then advises to migrate", async () => {
    const { url, query } = await db.createDatabase();
    await query("create extension vector; create table docs (id int primary key, body text)");
    expect(await embedd(url, "watch", "docs", "--content", "body")).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(
        /no embedd schema, or an outdated one: schema "embedd" does not exist\n {2}try: embedd migrate/,
      ) as string,
    });
    await embedd(url, "migrate");
    await query(`create function broken() returns event_trigger language plpgsql as $$
      begin perform missing.thing(); end $$;
      create event trigger broken on ddl_command_end execute function broken()`);
    const exit = await embedd(url, "watch", "docs", "--content", "body", "--create-columns");
    expect(exit.out).toContain('schema "missing" does not exist');
    expect(exit.out).not.toContain("embedd migrate");
  });
});
