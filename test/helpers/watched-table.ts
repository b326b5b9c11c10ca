import { expect, onTestFinished } from "vitest";
import pg from "pg";
import { watch } from "#embedd/admin/watch.js";
import type { TestDatabase } from "./database.js";
import { hashVector, parseVector } from "./providers.js";
import { waitFor } from "./wait.js";

type Queryable = Pick<TestDatabase, "query">;

export interface TableOptions {
  /** The table's name in SQL, quoted where it must be. */
  relation: string;
  /** @default a table of id, body, embedding and embedding_model */
  ddl?: string;
  /** Column names as they are, without quotes, as all that follow. @default ["body"] */
  content?: string[];
  template?: string;
  /** @default "embedding" */
  embedding?: string;
  /** @default the embedding column with `_model` */
  modelColumn?: string;
}

export interface ExpectOptions {
  /** SQL that tells the rows apart. @default "id" */
  key?: string;
  embedding?: string;
  modelColumn?: string;
  /** How far a component may be off. @default 1e-6 */
  tolerance?: number;
}

/**
 * Creates a table, watches it, and waits until the running worker serves it and sleeps: rows that are
 * written from then on are found only if the writer wakes the worker.
 * @returns the pipeline's id
 */
export async function watchTable(db: TestDatabase, options: TableOptions): Promise<number> {
  const {
    relation,
    ddl = `create table ${relation} (id int primary key, body text, embedding vector(384), embedding_model text)`,
    content = ["body"],
    embedding = "embedding",
    ...rest
  } = options;
  await db.query(ddl);
  const client = await db.pool.connect();
  try {
    const pipeline = await watch(client, { relation, content, embedding, ...rest });
    await waitUntilServed(db, pipeline);
    return pipeline;
  } finally {
    client.release();
  }
}

/** Waits until a worker has caught up with a pipeline for the first time. */
export async function waitUntilServed(db: Queryable, pipeline: number): Promise<void> {
  await waitFor(
    async () =>
      (await db.query("select from embedd.pipelines where id = $1 and caught_up_at is not null", [pipeline]))
        .rowCount === 1,
    { what: `a worker to serve pipeline ${pipeline}` },
  );
}

interface StoredRow {
  key: string;
  vector: string | null;
  model: string | null;
}

/**
 * Waits until a table holds exactly these rows with all their vectors, and checks that each is the vector
 * that `hashProvider` makes of its text. A vector of another text fails whenever it is seen.
 * @param expected the text by key; null: the row gets no vector
 */
export async function expectVectors(
  db: Queryable,
  relation: string,
  expected: Record<string, string | null>,
  options: ExpectOptions = {},
): Promise<void> {
  const { key = "id", embedding = "embedding", tolerance = 1e-6 } = options;
  const modelColumn = options.modelColumn ?? `${embedding}_model`;
  const quoted = [embedding, modelColumn].map((name) => pg.escapeIdentifier(name));
  const wanted = Object.fromEntries(
    Object.entries(expected).map(([k, text]) => [k, { text, model: text === null ? null : "hash" }]),
  );
  let found: Record<string, { text: string | null; model: string | null }> = {};
  await waitFor(
    async () => {
      const { rows } = await db.query<StoredRow>(
        `select (${key})::text as key, ${quoted[0] ?? ""}::text as vector, ${quoted[1] ?? ""} as model from ${relation} t`,
      );
      found = Object.fromEntries(
        rows.map((row) => [
          row.key,
          { text: textOf(row.vector, expected[row.key] ?? null, tolerance), model: row.model },
        ]),
      );
      const complete =
        rows.length === Object.keys(expected).length &&
        rows.every((row) => row.vector !== null || expected[row.key] === null);
      return complete || Object.values(found).some(({ text }) => text === STALE);
    },
    { what: `vectors of ${relation}` },
  ).catch((error: unknown) => {
    // Which rows lack theirs says more than that time is up.
    if (!(error instanceof pg.DatabaseError)) expect(found).toEqual(wanted);
    throw error;
  });
  expect(found).toEqual(wanted);
}

const STALE = "(the vector of another text)";

function textOf(vector: string | null, text: string | null, tolerance: number): string | null {
  if (vector === null) return null;
  if (text === null) return STALE;
  const stored = parseVector(vector);
  const right = hashVector(text, stored.length);
  return stored.every((component, i) => Math.abs(component - (right[i] ?? NaN)) < tolerance) ? text : STALE;
}

export interface NotificationCounter {
  /** Notifications of committed transactions so far. */
  count(): Promise<number>;
}

/** Counts the notifications of writers to sleeping workers. */
export async function countNotifications(db: { url: string }): Promise<NotificationCounter> {
  const client = new pg.Client({ connectionString: db.url, application_name: "test counter" });
  await client.connect();
  onTestFinished(() => client.end());
  let notifications = 0;
  client.on("notification", () => notifications++);
  await client.query("listen embedd");
  return {
    async count() {
      // Notifications arrive before the answer to the next statement.
      await client.query("select 1");
      return notifications;
    },
  };
}

/** A connection of a writer, closed when the test ends. */
export async function connectWriter(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: "test writer" });
  await client.connect();
  onTestFinished(() => client.end());
  return client;
}

/** A role with a name of its own, since roles belong to the whole server; dropped when the test ends. */
export async function createRole(db: TestDatabase): Promise<{ role: string; url: string }> {
  const role = `embedd_test_${Math.random().toString(36).slice(2, 12)}`;
  await db.query(`create role ${role} login`);
  onTestFinished(async () => {
    await db.query(`drop owned by ${role}; drop role ${role}`);
  });
  const url = new URL(db.url);
  url.username = role;
  return { role, url: url.toString() };
}
