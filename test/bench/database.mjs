import pg from "pg";
import { openEmbedded } from "#embedd/embedded/index.js";
import { migrate } from "#embedd/admin/migrate.js";

/** Creates a database for the benchmark, on BENCH_DATABASE_URL or TEST_DATABASE_URL; embedded if neither is set. */
export async function openDatabase() {
  const server = process.env.BENCH_DATABASE_URL ?? process.env.TEST_DATABASE_URL;
  if (server === undefined) {
    const embedded = await openEmbedded({});
    await migrate(embedded.connectionString);
    return {
      url: embedded.connectionString,
      what: "embedded PostgreSQL",
      server: false,
      drop: () => embedded.stop(),
    };
  }
  const name = `embedd_bench_${process.pid}`;
  const version = await asAdmin(server, async (admin) => {
    await admin.query(`create database ${name}`);
    return (await admin.query("show server_version")).rows[0].server_version;
  });
  const url = new URL(server);
  url.pathname = `/${name}`;
  await migrate(url.toString());
  return {
    url: url.toString(),
    what: `PostgreSQL ${version}`,
    server: true,
    drop: () => asAdmin(server, (admin) => admin.query(`drop database if exists ${name} with (force)`)),
  };
}

async function asAdmin(url, work) {
  const admin = new pg.Client(url);
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.end();
  }
}

export async function withClient(url, work) {
  return asAdmin(url, work);
}

/** Returns one fixed vector immediately, so that only embedd's own cost is measured. */
export function fixedProvider() {
  const vector = new Float32Array(384);
  vector[0] = 1;
  return {
    model: "fixed",
    dimensions: 384,
    concurrency: 2,
    maxBatchRows: 2_048,
    usdPerMillionTokens: 0,
    supportsDimensions: () => true,
    countTokens: (texts) => Promise.resolve(texts.map(() => 1)),
    embed: (texts) => Promise.resolve(texts.map(() => vector)),
    close: () => Promise.resolve(),
  };
}
