import { expect, it } from "vitest";
import { useDatabase } from "../../helpers/database.js";
import type { Database } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { waitFor } from "../../helpers/wait.js";
import { embeddCalls } from "./command-line.js";
import { RUN } from "./commands.js";

const db = useDatabase();

/** Exit codes of a command that ran; 3 is an answer, such as no failed row. */
const RAN = [0, 3];

/** A worker that is stopped once it has embedded what a program inserts. */
async function runWorker(database: Database): Promise<void> {
  const worker = spawnCli(["run"], { env: { DATABASE_URL: database.url } });
  await database.query("insert into docs (body) values ('Rows that embed themselves.')");
  await waitFor(
    async () =>
      (await database.query("select from docs where embedding_model = 'all-MiniLM-L6-v2'")).rowCount === 1,
    { what: "the row's vector" },
  );
  worker.child.kill("SIGTERM");
  const { code, stderr } = await worker.exited;
  expect(code, stderr).toBe(0);
}

async function perform(database: Database, command: string): Promise<void> {
  const sql = /^psql "\$DATABASE_URL" -c '(.*)'$/.exec(command)?.[1];
  if (sql !== undefined) {
    await database.query(sql);
    return;
  }
  if (command === "embedd run") {
    await runWorker(database);
    return;
  }
  const calls = embeddCalls(command);
  expect(calls, command).toHaveLength(1);
  for (const args of calls) {
    const { code, stdout, stderr } = await spawnCli(args, { env: { DATABASE_URL: database.url } }).exited;
    expect(RAN, `${command}: exit code ${code}\n${stdout}${stderr}`).toContain(code);
  }
}

it("runs the documentation's commands, in their order", { timeout: 600_000 }, async () => {
  const database = await db.createDatabase();
  for (const command of RUN) {
    // The test's own database takes the place of the example's.
    if (!command.startsWith("export DATABASE_URL=")) await perform(database, command);
  }
  const { rows } = await database.query("select id::integer, embedding_model from docs");
  expect(rows).toEqual([{ id: 1, embedding_model: "all-MiniLM-L6-v2" }]);
});
