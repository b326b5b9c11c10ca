import { expect, it } from "vitest";
import { createSchemaWatch } from "#embedd/worker/schema-watch.js";
import { silentLogger } from "#embedd/logger.js";
import pg from "pg";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { waitFor } from "../../helpers/wait.js";

const db = useDatabase();

describeServer("a worker whose schema is dropped", () => {
  it("says what to type and ends with exit code 2 after embedd uninstall", async () => {
    const { url } = await db.createMigratedDatabase();
    const env = { DATABASE_URL: url };
    const worker = spawnCli(["run"], { env });
    await worker.waitForLine(/ready/);
    expect(await spawnCli(["uninstall"], { env }).exited).toMatchObject({ code: 0 });
    await worker.waitForLine(/embedd's schema is gone.*embedd migrate/);
    const { code, stderr } = await worker.exited;
    expect(code).toBe(2);
    expect(stderr).toMatch(
      /^embedd: embedd's schema was dropped while the worker ran.*\n {2}try: embedd migrate$/m,
    );
  });

  it("continues if the schema returns in time, as after a restore", async () => {
    const { url, query } = await db.createMigratedDatabase();
    const env = { DATABASE_URL: url };
    const worker = spawnCli(["run"], { env });
    await worker.waitForLine(/ready/);
    await query("alter schema embedd rename to elsewhere");
    await worker.waitForLine(/embedd's schema is gone/);
    await query("alter schema elsewhere rename to embedd");
    await worker.waitForLine(/embedd's schema is back/);
    await query("insert into embedd.chunks (content) values ('hello')");
    await waitFor(
      async () => (await query("select from embedd.chunks where embedding is not null")).rowCount === 1,
      { what: "the vector of a row written after the schema came back" },
    );
    worker.child.kill("SIGTERM");
    expect(await worker.exited).toMatchObject({ code: 0 });
  });
});

it("a missing schema counts only from the first failure without a success in between, and for no other error", () => {
  const missing = new pg.DatabaseError('schema "embedd" does not exist', 0, "error");
  missing.code = "3F000";
  const down = new Error("connect ECONNREFUSED");
  const gone: string[] = [];
  let now = 0;
  const options = { schemaGraceMs: 10, onGone: ({ code }: { code: string }) => void gone.push(code) };
  const watch = createSchemaWatch(silentLogger, options, () => now);
  for (const step of [down, missing, null, missing, down, down]) {
    if (step === null) watch.found();
    else watch.failed(step);
    now += 9;
  }
  expect(gone).toEqual([]);
  watch.failed(missing);
  watch.failed(missing);
  expect(gone).toEqual(["not_migrated"]);
});
