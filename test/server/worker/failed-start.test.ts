import { execFile } from "node:child_process";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { waitFor } from "../../helpers/wait.js";
import { createRole } from "../../helpers/watched-table.js";

const db = useDatabase();
const program = fileURLToPath(new URL("../../helpers/failed-start.mjs", import.meta.url));
/** Node.js starts and a worker fails within this, on a busy machine too; a leaked handle would keep the process. */
const EXIT_MS = 120_000;

/** @returns what the program printed; rejects if it has to be killed */
async function startInVain(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...args], { timeout: EXIT_MS });
  return stdout.trim();
}

async function expectNoConnection(): Promise<void> {
  await waitFor(
    async () =>
      (
        await db.query(
          "select from pg_stat_activity where datname = current_database() and application_name like 'embedd %'",
        )
      ).rowCount === 0,
    { what: "the worker's connections to end" },
  );
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describeServer("a worker that cannot start leaves nothing open", () => {
  it("if no server listens at the address", async () => {
    const url = new URL(db.url);
    url.port = String(await freePort());
    expect(await startInVain(url.toString())).toBe("database_unreachable");
  });

  it.each([
    [1, "the listener"],
    [2, "the pool"],
  ])("if its role may open only %i connections, too few for %s", async (connections) => {
    const { role, url } = await createRole(db);
    await db.query("select embedd.grant_worker($1)", [role]);
    await db.query(`alter role ${role} connection limit ${connections}`);
    expect(await startInVain(url)).toBe("database_unavailable");
    await expectNoConnection();
  });

  it("if no pipeline can be served", async () => {
    await db.query("update embedd.pipelines set template = '{nothing}'");
    expect(await startInVain(db.url)).toBe("no_pipeline");
    await expectNoConnection();
    await db.query("update embedd.pipelines set template = null");
  });

  it("if a limit in dollars has no price, without even connecting", async () => {
    const url = new URL(db.url);
    url.port = String(await freePort());
    expect(await startInVain(url.toString(), "1")).toBe("unknown_price");
  });
});
