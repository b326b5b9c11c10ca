import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { Client } from "pg";
import type { TestProject } from "vitest/node";
import { openEmbedded } from "#embedd/embedded/index.js";
import { migrate } from "#embedd/admin/migrate.js";
import {
  createServerDatabase,
  databaseUrl,
  dropOldDatabases,
  dropServerDatabase,
  newName,
  otherRuns,
  serverObjects,
  withAdmin,
} from "./server-databases.js";
import { writeSmallModel } from "./small-model.js";

/** What every test file clones its database from. */
export type DatabaseTemplate =
  | { kind: "server"; serverUrl: string; name: string }
  | { kind: "embedded"; emptyPath: string; migratedPath: string };

declare module "vitest" {
  export interface ProvidedContext {
    databaseTemplate: DatabaseTemplate;
    /** The folder of a model that starts fast. */
    smallModel: string;
  }
}

type Teardown = () => Promise<void>;

async function setUpServer(project: TestProject, serverUrl: string): Promise<Teardown> {
  const name = newName("template");
  let before = new Set<string>();
  try {
    await withAdmin(serverUrl, async (admin) => {
      const { rows } = await admin.query<{ version: string; superuser: string }>(
        "select current_setting('server_version') as version, current_setting('is_superuser') as superuser",
      );
      if (rows[0]?.superuser !== "on")
        throw new Error("its user is no superuser, and the tests create databases");
      console.log(`\nPostgreSQL ${rows[0].version} at TEST_DATABASE_URL`);
      await findProgramsOf(admin);
      await dropOldDatabases(admin);
      before = await serverObjects(admin);
    });
  } catch (error) {
    throw new Error(`TEST_DATABASE_URL cannot be used: ${describe(error)}`, { cause: error });
  }
  await createServerDatabase(serverUrl, name);
  await migrate(databaseUrl(serverUrl, name));
  project.provide("databaseTemplate", { kind: "server", serverUrl, name });
  return async () => {
    await dropServerDatabase(serverUrl, name);
    await checkLeftovers(serverUrl, before);
  };
}

/** Fails the run if its tests left something on the server. Objects of another run cannot be told from its own. */
async function checkLeftovers(serverUrl: string, before: ReadonlySet<string>): Promise<void> {
  await withAdmin(serverUrl, async (admin) => {
    const left = [...(await serverObjects(admin))].filter((object) => !before.has(object));
    if (left.length === 0) return;
    if (await otherRuns(admin)) {
      console.log("other test runs use the server, so nothing is said about what this one left there");
      return;
    }
    process.exitCode = 1;
    throw new Error(`the tests left on the server: ${left.join(", ")}`);
  });
}

/** pg_dump refuses a newer server, and psql's output changes, so tests run the programs of the server's own version. */
async function findProgramsOf(admin: Client): Promise<void> {
  const { rows } = await admin.query<{ folder: string }>(
    "select setting as folder from pg_config where name = 'BINDIR'",
  );
  const folder = rows[0]?.folder ?? "";
  // A server on another machine tells nothing about this one.
  if (!existsSync(join(folder, "pg_dump"))) return;
  process.env["TEST_POSTGRESQL_BIN"] = folder;
  process.env["PATH"] = [folder, process.env["PATH"] ?? ""].join(delimiter);
}

/** A refused connection to a name with several addresses is an AggregateError without a message. */
function describe(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(describe).join("; ");
  return error instanceof Error ? error.message : String(error);
}

async function setUpEmbedded(project: TestProject): Promise<Teardown> {
  console.log("\nembedded PostgreSQL (PGlite)");
  const folder = await mkdtemp(join(tmpdir(), "embedd-test-"));
  const paths = { emptyPath: join(folder, "empty.tar"), migratedPath: join(folder, "migrated.tar") };
  // initdb takes seconds, a start from its result one.
  const server = await openEmbedded();
  const save = async (path: string): Promise<void> =>
    writeFile(path, new Uint8Array(await (await server.dump()).arrayBuffer()));
  try {
    await save(paths.emptyPath);
    await migrate(server.connectionString);
    await save(paths.migratedPath);
  } finally {
    await server.stop();
  }
  project.provide("databaseTemplate", { kind: "embedded", ...paths });
  return () => rm(folder, { recursive: true, force: true });
}

async function setUpDatabase(project: TestProject): Promise<Teardown> {
  // Most unit tests need none, and a mutation's tests are run alone.
  if (process.env["TEST_WITHOUT_DATABASE"] === "yes") return () => Promise.resolve();
  const serverUrl = process.env["TEST_DATABASE_URL"];
  return serverUrl ? setUpServer(project, serverUrl) : setUpEmbedded(project);
}

export default async function setUp(project: TestProject): Promise<Teardown> {
  const smallModel = await mkdtemp(join(tmpdir(), "embedd-small-model-"));
  const removeModel = (): Promise<void> => rm(smallModel, { recursive: true, force: true });
  try {
    await writeSmallModel(smallModel);
    project.provide("smallModel", smallModel);
    const tearDown = await setUpDatabase(project);
    return () => tearDown().finally(removeModel);
  } catch (error) {
    await removeModel();
    throw error;
  }
}
