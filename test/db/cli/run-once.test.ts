import { expect, it } from "vitest";
import { spawnCli } from "../../helpers/cli.js";
import { useDatabase } from "../../helpers/database.js";

const db = useDatabase();

it("run --once prints its warnings before the progress bar, and no estimate before the first row", async () => {
  await db.query(`update embedd.pipelines set served_model = 'old';
    insert into embedd.chunks (source, content) values ('a', 'text')`);
  const { code, stderr } = await spawnCli(["run", "--once"], { env: { DATABASE_URL: db.url } }).exited;
  expect(code, stderr).toBe(0);
  const warning = stderr.search(/takes over embedd\.chunks from old/);
  const bar = stderr.search(/embedding [█░]/);
  expect(warning).toBeGreaterThanOrEqual(0);
  expect(bar).toBeGreaterThan(warning);
  expect(stderr).toMatch(/0\/1 rows \| - rows\/s\n/);
});

it("run --once says in a sentence that nothing is pending, and which rows are not its business", async () => {
  const { url, query } = await db.createMigratedDatabase();
  const embedd = (...args: string[]) => spawnCli(args, { env: { DATABASE_URL: url } }).exited;
  const idle = await embedd("run", "--once");
  expect(idle).toMatchObject({ code: 0, stdout: "nothing to do: 0 rows are pending for this worker\n" });
  expect(idle.stderr).not.toMatch(/█|0\/0/);

  await query(`create table docs (id int primary key, body text, embedding vector(384), embedding_model text);
    create table others (like docs including all);
    insert into docs values (1, 'text');
    insert into others values (1, 'text');
    select embedd.watch('docs', '{body}'), embedd.set_paused('docs', 'embedding', true),
      embedd.watch('others', '{body}', model => 'another')`);
  const paused = await embedd("run", "--once");
  expect(paused.stderr).toMatch(/1 row left: docs is paused: embedd resume docs\n/);
  expect(paused.stderr).toMatch(/1 row left: others is for workers of another alone\n/);
  expect(paused.stdout).toMatch(/nothing to do/);
});

it("a table that is not served is told in a sentence, and the one command that helps works", async () => {
  const { url, query } = await db.createMigratedDatabase();
  const embedd = (...args: string[]) => spawnCli(args, { env: { DATABASE_URL: url } }).exited;
  await query(`create table narrow (id int primary key, body text, embedding vector(3), embedding_model text);
    insert into narrow values (1, 'text'); select embedd.watch('narrow', '{body}')`);
  const what = "column embedding of public.narrow is vector(3), but all-MiniLM-L6-v2 makes 384 dimensions";
  const run = await embedd("run", "--once");
  expect(run).toMatchObject({ code: 3 });
  const cure =
    "embedd unwatch public.narrow --embedding embedding && embedd watch public.narrow --content body --embedding embedding_384 --create-columns --dimensions 384";
  expect(run.stderr).toContain(`narrow is not served: ${what}\n  try: ${cure}\n`);
  expect((await embedd("status")).stdout).toContain(`  error     ${what}\n            try: ${cure}\n`);
  for (const line of cure.split(" && ")) {
    expect(await embedd(...line.split(" ").slice(1)), line).toMatchObject({ code: 0 });
  }
  expect(await embedd("run", "--once")).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("1 row in") as string,
  });
});

it("a row that fails is not counted as embedded", async () => {
  const { url, query } = await db.createMigratedDatabase();
  const embedd = (...args: string[]) => spawnCli(args, { env: { DATABASE_URL: url } }).exited;
  await query(`create table picky (id int primary key, body text, embedding vector(384), embedding_model text);
    create function refuse_two() returns trigger language plpgsql as
      'begin if new.id = 2 then raise exception ''no''; end if; return new; end';
    create trigger picky before update on picky for each row execute function refuse_two();
    select embedd.watch('picky', '{body}'); insert into picky values (1, 'one'), (2, 'two'), (3, 'three')`);
  const { code, stdout, stderr } = await embedd("run", "--once");
  expect(code).toBe(3);
  expect(stdout).toMatch(/^2 rows in /);
  expect(stderr).toMatch(/^1 row failed; list them with: embedd failures$/m);
});
