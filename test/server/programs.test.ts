import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../helpers/database.js";
import { runProgram } from "../helpers/programs.js";
import { findBinaries } from "../faults/cluster.js";

describeServer("the programs that tests run", () => {
  const db = useDatabase();

  it.each([
    ["psql", "psql"],
    ["pg_dump", "pg_dump"],
    ["a private cluster's initdb", `${findBinaries() ?? ""}/initdb`],
  ])("are of the server's version: %s", async (_, program) => {
    const { rows } = await db.query<{ major: string }>(
      "select current_setting('server_version_num')::int / 10000 as major",
    );
    const version = (await runProgram(program, ["--version"])).toString();
    expect(version).toMatch(new RegExp(String.raw`\(PostgreSQL\) ${rows[0]?.major ?? ""}\b`));
  });
});
