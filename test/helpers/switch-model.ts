import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";
import { expect, onTestFinished } from "vitest";
import type { Provider } from "#embedd/providers/provider.js";
import type { TestDatabase } from "./database.js";
import { hashProvider, hashVector, parseVector } from "./providers.js";
import { waitFor } from "./wait.js";

/** The vector of a text under a model of this name. Models differ even if their dimensions are equal. */
export const vectorOf = (model: string, text: string, dimensions: number): Float32Array =>
  hashVector(`${model}: ${text}`, dimensions);

export function namedProvider(model: string, dimensions: number): Provider {
  return {
    ...hashProvider({ model, dimensions }),
    embed: (texts) => Promise.resolve(texts.map((text) => vectorOf(model, text, dimensions))),
  };
}

/** Whether a vector is the one that a model makes of a text. */
export function isVectorOf(vector: string, model: string, text: string): boolean {
  const stored = parseVector(vector);
  const right = vectorOf(model, text, stored.length);
  return stored.every((component, i) => Math.abs(component - (right[i] ?? NaN)) < 2e-3);
}

/** An application that works on its own connection until it is stopped or the test ends. */
interface Background<T> {
  /** What it has done so far. @throws what ended it early */
  result(): T;
  /** @throws what ended it early */
  stop(): Promise<T>;
}

function inBackground<T>(
  url: string,
  step: (client: pg.Client) => Promise<void>,
  result: () => T,
): Background<T> {
  let stopping = false;
  const ended = (async () => {
    const client = new pg.Client({ connectionString: url, application_name: "test background" });
    await client.connect();
    try {
      while (!stopping) await step(client);
    } finally {
      await client.end();
    }
  })();
  let failure: Error | undefined;
  ended.catch((error: unknown) => (failure = error as Error));
  const stop = async (): Promise<T> => {
    stopping = true;
    await ended;
    return result();
  };
  onTestFinished(async () => {
    stopping = true;
    await ended.catch(() => undefined);
  });
  return {
    result() {
      if (failure) throw failure;
      return result();
    },
    stop,
  };
}

/**
 * An application that keeps searching, as the documentation of embedd.model_of describes. A failed search
 * ends it, and `stop` throws the error. Every row found must have the vector that the query's model makes of
 * its text.
 */
export function startSearcher(
  url: string,
  relation: string,
): Background<{ searches: number; models: string[]; slowestMs: number }> {
  let searches = 0;
  let slowestMs = 0;
  const models: string[] = [];
  return inBackground(
    url,
    async (client) => {
      const started = performance.now();
      await client.query("begin");
      const { rows: present } = await client.query<{ model: string; dimensions: number }>(
        "select model, dimensions from embedd.model_of($1)",
        [relation],
      );
      const { model, dimensions } = present[0] ?? { model: "", dimensions: 0 };
      const query = `[${vectorOf(model, `text ${searches % 50}`, dimensions).join(",")}]`;
      const { rows } = await client.query<{ body: string; vector: string; distance: number }>(
        `select body, embedding::text as vector, embedding <=> $1 as distance from ${relation}
         where embedding_model = $2 order by embedding <=> $1 limit 3`,
        [query, model],
      );
      await client.query("commit");
      slowestMs = Math.max(slowestMs, performance.now() - started);
      searches++;
      if (models.at(-1) !== model) models.push(model);
      if (rows.length === 0) throw new Error(`nothing found with ${model}`);
      for (const { body, vector } of rows) {
        if (!isVectorOf(vector, model, body))
          throw new Error(`a row found with ${model} has another's vector`);
      }
    },
    () => ({ searches, models, slowestMs }),
  );
}

/** An application that keeps inserting, editing and deleting; its result is the number of rounds. */
export function startWriter(url: string, relation: string): Background<number> {
  let writes = 0;
  return inBackground(
    url,
    async (client) => {
      const n = ++writes;
      await client.query(`insert into ${relation} (id, body) values ($1, $2)`, [
        1_000_000 + n,
        `written ${n}`,
      ]);
      await client.query(`update ${relation} set body = body || ' edited' where id = $1`, [
        1 + ((n * 7) % 100),
      ]);
      await client.query(`update ${relation} set body = 'again ' || $2 where id = $1`, [
        1_000_000 + n - 3,
        n,
      ]);
      await client.query(`delete from ${relation} where id = $1`, [1_000_000 + n - 9]);
      // The pace of an application, so that a worker can keep up.
      await sleep(5);
    },
    () => writes,
  );
}

/** Waits until every row has a vector, and checks that each is the model's own of its text. */
export async function expectModel(
  db: Pick<TestDatabase, "query">,
  relation: string,
  model: string,
  dimensions: number,
  { embedding = "embedding", modelColumn = "embedding_model" } = {},
): Promise<void> {
  await waitFor(
    async () => (await db.query(`select from ${relation} where ${embedding} is null limit 1`)).rowCount === 0,
    { what: `all vectors of ${model}` },
  );
  const { rows } = await db.query<{ body: string; vector: string; name: string }>(
    `select body, ${embedding}::text as vector, ${modelColumn} as name from ${relation}`,
  );
  for (const { body, vector, name } of rows) {
    expect(name).toBe(model);
    expect(parseVector(vector)).toHaveLength(dimensions);
    expect(isVectorOf(vector, model, body)).toBe(true);
  }
}

/** The whole schema, and what embedd knows of its pipelines. */
export async function catalogOf(db: TestDatabase): Promise<string> {
  const run = promisify(execFile);
  const { stdout } = await run("pg_dump", ["--schema-only", db.url]);
  const { rows } = await db.query(
    `select to_jsonb(p) - '{served_by,caught_up_at,error}'::text[] as pipeline from embedd.pipelines p order by id`,
  );
  const { rows: grants } = await db.query("select * from embedd.grants order by 1, 2, 3, 4");
  // A random key in newer versions' output.
  return `${stdout.replace(/^\\(un)?restrict .*$/gm, "")}\n${JSON.stringify({ rows, grants }, null, 1)}`;
}
