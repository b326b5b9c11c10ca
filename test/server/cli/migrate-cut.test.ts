import { expect, it } from "vitest";
import { spawnCli } from "../../helpers/cli.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { waitFor } from "../../helpers/wait.js";
import { connectWriter } from "../../helpers/watched-table.js";

const db = useDatabase();

describeServer("embedd migrate", () => {
  it("says that its connection was cut, in one line, if the server ends it between two statements", async () => {
    const other = await connectWriter(db.url);
    await other.query("select pg_advisory_lock(1701667443)");
    const command = spawnCli(["migrate"], { env: { DATABASE_URL: db.url } });
    await waitFor(
      async () =>
        (
          await db.query(`
            select pg_terminate_backend(pid) from pg_stat_activity
            where application_name = 'embedd migrate' and datname = current_database() and state = 'idle'
              and query like '%pg_try_advisory_lock%'`)
        ).rowCount === 1,
      { what: "migrate to wait for its turn", intervalMs: 5 },
    );
    const { code, signal, stderr } = await command.exited;
    expect({ code, signal, stderr }).toEqual({
      code: 4,
      signal: null,
      stderr: expect.stringMatching(/^embedd: .*\n( {2}try: .*\n)?$/) as string,
    });
  });
});
