import { execFile } from "node:child_process";
import { promisify } from "node:util";
import pg from "pg";
import { expect, it, onTestFinished, vi } from "vitest";
import { silentLogger } from "#embedd/logger.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { hashProvider } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { connectWriter, createRole } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();
const run = promisify(execFile);
const embedd = (args: string[], url = db.url) => spawnCli(args, { env: { DATABASE_URL: url } }).exited;

async function schemaOf(url: string): Promise<string> {
  const { stdout } = await run("pg_dump", ["--schema-only", "--restrict-key=embedd", url]).catch(() =>
    run("pg_dump", ["--schema-only", url]),
  );
  // A random key in newer versions' output.
  return stdout.replace(/^\\(un)?restrict .*$/gm, "");
}

async function withRole(work: (role: string, url: string) => Promise<void>): Promise<void> {
  const role = `worker_${Math.random().toString(36).slice(2, 10)}`;
  await db.query(`create role ${role} login`);
  onTestFinished(async () => {
    await db.query(`drop owned by ${role}; drop role ${role}`);
  });
  const url = new URL(db.url);
  url.username = role;
  await work(role, url.toString());
}

describeServer("a worker that owns nothing", () => {
  it("can do everything with the privileges of embedd grant, and gets no more than it needs", async () => {
    await db.query(`create schema app;
      create table app.docs (id int primary key, secret text, body text, embedding vector(384), embedding_model text);
      insert into app.docs select i, 'hidden', 'visible ' || i from generate_series(1, 1000) i`);
    expect(await embedd(["watch", "app.docs", "--content", "body"])).toMatchObject({ code: 0 });
    await withRole(async (role, url) => {
      expect(await embedd(["grant", role])).toMatchObject({ code: 0 });
      const warn = vi.fn();
      const log = { ...silentLogger, warn };
      const worker = await startTestWorker(db, hashProvider(), { databaseUrl: url, log });
      await waitFor(
        async () => (await db.query("select from app.docs where embedding is not null")).rowCount === 1_000,
        { what: "the vectors of a backlog" },
      );
      expect(warn).not.toHaveBeenCalled();
      // A table that is watched later is the worker's as well.
      await db.query(`create table app.later (id int primary key, body text, embedding vector(384), embedding_model text);
        insert into app.later values (1, 'later')`);
      expect(await embedd(["watch", "app.later", "--content", "body"])).toMatchObject({ code: 0 });
      await waitFor(
        async () => (await db.query("select from app.later where embedding is not null")).rowCount === 1,
        { what: "the vector of a table watched later" },
      );
      expect(await embedd(["status"], url)).toMatchObject({ code: 0 });
      await worker.stop();

      const client = new pg.Client(url);
      await client.connect();
      for (const statement of [
        "select secret from app.docs",
        "update app.docs set body = 'x'",
        "insert into app.docs (id) values (0)",
        "delete from app.docs",
        "select embedd.watch('app.docs', '{secret}', 'other')",
        "insert into embedd.pipelines (relation, key_columns, content_columns, embedding_column, model_column) values ('app.docs', '{id}', '{secret}', 'x', 'y')",
        "update embedd.pipelines set content_columns = '{secret}'",
      ]) {
        await expect(client.query(statement), statement).rejects.toMatchObject({
          code: expect.stringMatching(/^(42501|EMBDD)$/) as string,
        });
      }
      await client.end();
      expect(await embedd(["grant", role, "--revoke"])).toMatchObject({ code: 0 });
      const { rows } = await db.query(
        "select has_schema_privilege($1, 'app', 'usage') as schema, has_any_column_privilege($1, 'app.docs', 'select') as columns",
        [role],
      );
      expect(rows).toEqual([{ schema: false, columns: false }]);
    });
  });

  it("needs an existing role: grant refuses a missing one, with a hint", async () => {
    expect(await embedd(["grant", "nobody_here"])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("CREATE ROLE nobody_here") as string,
    });
  });
});

describeServer("names in embedd's tables", () => {
  it("are never used as SQL: a pipeline with names that the catalog does not know is not served", async () => {
    await db.query(`create table target (id int primary key, body text, embedding vector(384), embedding_model text);
      create table victim (id int)`);
    const evil = 'body::text); drop table victim; select (body"';
    await db.query(
      `insert into embedd.pipelines (relation, key_columns, content_columns, template, embedding_column, model_column)
       values ('target', '{id}', array[$1], $2, 'embedding', 'embedding_model')`,
      [evil, "'); drop table victim; --"],
    );
    const worker = await startTestWorker(db, hashProvider());
    await db.query("insert into target values (1, 'text')");
    await worker.idle();
    expect(
      (await db.query("select error from embedd.pipelines where relation = 'target'::regclass")).rows,
    ).toEqual([{ error: expect.stringContaining("a column that it needs is gone") as string }]);
    expect((await db.query("select from victim")).rowCount).toBe(0);
    await db.query("delete from embedd.pipelines where relation = 'target'::regclass");
  });
});

describeServer("leaving", () => {
  it("by unwatch restores the schema of the tables, grants and all", async () => {
    const { url, query } = await db.createDatabase();
    await query(`create extension vector; create schema app;
      create table app.docs (id int primary key, body text, embedding vector(3), embedding_model text);
      create table app."Bücher" (a int, b text, body text, embedding vector(3), embedding_model text, primary key (a, b));
      create table app.parts (id int primary key, body text, embedding vector(3), embedding_model text) partition by range (id);
      create table app.parts_1 partition of app.parts for values from (0) to (10)`);
    await embedd(["migrate"], url);
    const before = await schemaOf(url);
    await withRole(async (role) => {
      await embedd(["grant", role], url);
      for (const table of ["app.docs", 'app."Bücher"', "app.parts"]) {
        const watched = await embedd(["watch", table, "--content", "body"], url);
        expect(watched, watched.stderr).toMatchObject({ code: 0 });
      }
      expect(await schemaOf(url)).not.toBe(before);
      for (const table of ["app.docs", 'app."Bücher"', "app.parts"]) {
        expect(await embedd(["unwatch", table], url)).toMatchObject({ code: 0 });
      }
      await embedd(["grant", role, "--revoke"], url);
    });
    expect(await schemaOf(url)).toBe(before);
  });

  it("by uninstall leaves only the vectors, and drops embedd.chunks only on request", async () => {
    const { url, query } = await db.createDatabase();
    await query(`create extension if not exists vector;
      create table docs (id int primary key, body text, embedding vector(3), embedding_model text);
      insert into docs values (1, 'a', '[1,2,3]', 'm')`);
    const before = await schemaOf(url);
    await embedd(["migrate"], url);
    await embedd(["watch", "docs", "--content", "body"], url);
    await query("insert into embedd.chunks (source, content) values ('s', 'c')");
    expect(await embedd(["uninstall"], url)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("--drop-chunks") as string,
    });
    const done = await embedd(["uninstall", "--drop-chunks"], url);
    expect(done, done.stderr).toMatchObject({ code: 0 });
    expect(await schemaOf(url)).toBe(before);
    expect((await query("select embedding::text from docs")).rows).toEqual([{ embedding: "[1,2,3]" }]);
  });

  it("with --drop-columns drops the vectors too", async () => {
    const { url, query } = await db.createDatabase();
    await embedd(["migrate"], url);
    await query("create table docs (id int primary key, body text)");
    const before = await schemaOf(url);
    expect(await embedd(["watch", "docs", "--content", "body", "--create-columns"], url)).toMatchObject({
      code: 0,
    });
    expect(await schemaOf(url)).toContain("vector(384)");
    expect(await embedd(["unwatch", "docs", "--drop-columns"], url)).toMatchObject({ code: 0 });
    expect(await schemaOf(url)).toBe(before);
  });
});

describeServer("a role that has nothing to do with embedd", () => {
  it("may be dropped while the roles of a table's workers are looked up", async () => {
    const role = `embedd_test_${Math.random().toString(36).slice(2, 12)}`;
    const worker = await createRole(db);
    await db.query(`create role ${role}; select embedd.grant_worker('${worker.role}')`);
    const client = await connectWriter(db.url);
    // Its statements still see the role, while PostgreSQL's own functions know that it is gone.
    await client.query("begin isolation level repeatable read");
    await client.query("select from pg_roles");
    await db.query(`drop role ${role}`);
    await client.query("select embedd.worker_roles_for(relation) from embedd.pipelines");
    await client.query("rollback");
  });
});

describeServer("a role that only searches", () => {
  it("can look up the model with the grants of the manual, and do nothing else", async () => {
    await db.query(`create table searched (id int primary key, body text, embedding vector(8), embedding_model text);
      select embedd.watch('searched', '{body}');
      update embedd.pipelines set served_model = 'm' where relation = 'searched'::regclass`);
    await withRole(async (role, url) => {
      await db.query(`grant usage on schema embedd to ${role};
        grant select on embedd.pipelines, searched to ${role}`);
      const client = new pg.Client(url);
      await client.connect();
      onTestFinished(() => client.end());
      const { rows } = await client.query("select * from embedd.model_of('searched')");
      expect(rows).toEqual([{ model: "m", dimensions: 8 }]);
      await expect(client.query("select embedd.unwatch('searched')")).rejects.toThrow();
      await expect(client.query("select * from embedd.leases")).rejects.toThrow(/permission denied/);
    });
  });
});
