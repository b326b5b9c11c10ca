import { createInterface } from "node:readline/promises";
import type { Command } from "commander";
import type { Pool } from "pg";
import { createLogger } from "../logger.js";
import { createProvider, embedQuery } from "../providers/create-provider.js";
import type { Provider } from "../providers/provider.js";
import { loadPipelines } from "../database/load-pipelines.sql.js";
import { migrate } from "../admin/migrate.js";
import { countPending } from "../admin/status.sql.js";
import { createPool } from "../database/pool.js";
import { createWorker } from "../worker/worker.js";
import { readConfig } from "./context.js";
import { readDocumentation } from "./demo-text.js";
import type { Chunk } from "./demo-text.js";
import { EXIT } from "./exit.js";
import { backlogProgress } from "./progress.js";
import { unlessStopped } from "./signals.js";
import { excerpt } from "./text.js";
import { print, printError } from "./print.js";

const QUESTIONS = [
  "How do I redact a password in the log?",
  "How can I log as JSON without slowing the application down?",
  "Which distance functions can be used for nearest neighbor search?",
];

const CHUNKS = 360;

export function addDemo(program: Command): void {
  program
    .command("demo [question]")
    .description("try embedd on real text, with PostgreSQL in memory; no account, no download")
    .addHelpText("after", '\nExample:\n  npm run demo -- "how do I set a default value for an option?"')
    .action(async (question: string | undefined, _flags: object, command: Command) => {
      await unlessStopped(demo(command, question));
    });
}

async function demo(command: Command, question: string | undefined): Promise<void> {
  const config = readConfig(command);
  const chunks = await readDocumentation(CHUNKS);
  if (chunks.length === 0) {
    printError("embedd: there is no documentation to read in node_modules\n");
    process.exitCode = EXIT.fault;
    return;
  }
  print("starting PostgreSQL with pgvector, and the model, in this process …\n");
  const { openEmbedded } = await import("../embedded/index.js");
  const server = await openEmbedded({});
  const provider = await createProvider(config);
  const pool = createPool({
    connectionString: server.connectionString,
    applicationName: "embedd demo",
    max: 2,
  });
  try {
    await migrate(server.connectionString);
    print(`connect from another terminal: psql "${server.shownAddress}"\n\n`);
    await insertChunks(pool, chunks);
    const files = new Set(chunks.map((chunk) => chunk.source)).size;
    print(`inserted ${chunks.length} chunks from ${files} files with plain SQL and no embedding\n`);
    const progress = backlogProgress(await countPending(pool, provider.model));
    const worker = await createWorker({
      databaseUrl: server.connectionString,
      provider,
      log: createLogger({ level: "warn", format: config.logFormat }),
      onBatch: (_, outcome) => {
        progress.add(outcome.written);
      },
    });
    progress.show();
    try {
      await worker.idle();
      progress.stop();
      const rate = (progress.rows() / progress.ms()) * 1000;
      print(`${progress.rows()} rows embedded, ${rate.toFixed(0)} rows per second\n`);
      const ms = await insertToSearchable(pool);
      print(`inserted one more row: searchable ${ms.toFixed(0)} ms later\n`);
      for (const text of question === undefined ? QUESTIONS : [...QUESTIONS, question]) {
        await answer(pool, provider, text);
      }
      if (question === undefined) await askMore(pool, provider);
    } finally {
      await worker.stop();
    }
  } finally {
    await pool.end();
    await provider.close();
    await server.stop();
  }
}

async function insertChunks(pool: Pool, chunks: readonly Chunk[]): Promise<void> {
  await pool.query(
    `
insert into embedd.chunks (source, position, content)
select *
from unnest($1::text[], $2::integer[], $3::text[])`,
    [chunks.map((c) => c.source), chunks.map((c) => c.position), chunks.map((c) => c.content)],
  );
}

/** Measures the milliseconds from the end of an INSERT until the row's vector can be read. */
async function insertToSearchable(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ id: string }>(
    `
insert into embedd.chunks (source, content)
values ('you', 'The quick brown fox jumps over the lazy dog.')
returning id`,
  );
  const inserted = performance.now();
  for (;;) {
    const { rowCount } = await pool.query(
      "select from embedd.chunks where id = $1 and embedding is not null",
      [rows[0]?.id],
    );
    if (rowCount === 1) return performance.now() - inserted;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

async function answer(pool: Pool, provider: Provider, question: string): Promise<void> {
  const { pipelines } = await loadPipelines(pool);
  const chunks = pipelines.find((pipeline) => pipeline.relation === "embedd.chunks");
  if (chunks === undefined) throw new Error("embedd.chunks is not watched");
  const vector = await embedQuery(provider, question, { dimensions: chunks.dimensions });
  const { rows } = await pool.query<{ source: string; distance: number; content: string }>(
    `
select source,
  content,
  embedding operator(${chunks.vectorSchema}.<=>) $1::${chunks.embeddingType} as distance
from embedd.chunks
where embedding_model = $2
order by distance
limit 3`,
    [`[${vector.join(",")}]`, provider.model],
  );
  print(`\n${question}\n`);
  for (const { source, distance, content } of rows) {
    print(`  ${distance.toFixed(3)}  ${source}\n         ${excerpt(content, 160)}\n`);
  }
}

async function askMore(pool: Pool, provider: Provider): Promise<void> {
  if (!process.stdin.isTTY) {
    print('\nask your own question: npm run demo -- "how do I set a default value for an option?"\n');
    return;
  }
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const closed = new Promise<string>((resolve) => terminal.once("close", () => resolve("")));
  try {
    for (;;) {
      const question = (
        await Promise.race([terminal.question("\nyour question (press Enter to quit): "), closed])
      ).trim();
      if (question === "") return;
      await answer(pool, provider, question);
    }
  } finally {
    terminal.close();
  }
}
