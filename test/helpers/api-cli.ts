import { onTestFinished } from "vitest";
import { startApiServer } from "./api-server.js";
import type { ApiServer, ApiServerOptions } from "./api-server.js";
import type { Database, TestDatabase } from "./database.js";
import { spawnCli } from "./cli.js";
import type { CliProcess } from "./cli.js";

export const KEY = "sk-live-27182818284590452353";

/** Starts a scripted server; it stops when the test ends. */
export async function startScriptedApi(options: ApiServerOptions = {}): Promise<ApiServer> {
  const server = await startApiServer(options);
  onTestFinished(() => server.stop());
  return server;
}

/** Creates a database with a watched table `docs` of `rows` rows: `text 0`, `text 1`, … */
export async function createWatchedDocs(
  db: TestDatabase,
  rows: number,
  type = "vector(384)",
): Promise<Database> {
  const database = await db.createMigratedDatabase();
  await database.query(`create table docs (id int primary key, body text, embedding ${type}, embedding_model text);
    insert into docs select i, 'text ' || i from generate_series(0, ${rows - 1}) i`);
  await database.query("select embedd.watch('docs', '{body}')");
  return database;
}

/** Starts `embedd …` with the openai provider at a scripted server. */
export const spawnWithApi = (
  database: Database,
  server: { url: string },
  args: string[],
  env: Record<string, string> = {},
): CliProcess =>
  spawnCli(args, {
    env: {
      DATABASE_URL: database.url,
      EMBEDD_PROVIDER: "openai",
      EMBEDD_BASE_URL: server.url,
      OPENAI_API_KEY: KEY,
      EMBEDD_LOG_LEVEL: "debug",
      ...env,
    },
  });
