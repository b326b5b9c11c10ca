import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { between, pick, seededRandom } from "./random.js";
import type { Random } from "./random.js";

/** Simulated applications that keep inserting, editing and deleting, each on its own connection. */
export interface Writers {
  /** Transactions whose commit the writers saw succeed. */
  readonly committed: number;
  /** Stops new transactions; resolves when none is open. */
  pause(): Promise<void>;
  resume(): void;
  stop(): Promise<void>;
}

export interface WriterOptions {
  url: string;
  count: number;
  seed: number;
  /** The longest pause between two transactions of a writer. */
  pauseMs: number;
  /** @default notes */
  table?: string;
  /** The approximate number of rows to keep in the table. */
  rows: number;
  /** Called when a writer sees an error that embedd must never cause. */
  onError: (error: unknown) => void;
}

/** Few, so that rows often get a text that they had before. */
const TEXTS = 40;

function text(random: Random): string | null {
  const share = random();
  if (share < 0.02) return `poison ${between(random, 1, 5)}`;
  if (share < 0.05) return pick(random, [null, "", " \n"]);
  // Half of the texts are new, so their vectors must be computed.
  const subject = random() < 0.5 ? between(random, 1, TEXTS) : Math.floor(random() * 1e12);
  return `A note about subject number ${subject}.`;
}

export function startWriters(options: WriterOptions): Writers {
  let committed = 0;
  let paused = false;
  let stopped = false;
  let resume: () => void = () => undefined;
  let resumed = Promise.resolve();
  const busy = new Set<number>();
  const loops = Array.from({ length: options.count }, (_, i) => write(i).catch(options.onError));

  async function write(index: number): Promise<void> {
    const random = seededRandom(options.seed * 1_000 + index);
    let client: pg.Client | null = null;
    while (!stopped) {
      if (paused) {
        await resumed;
        continue;
      }
      busy.add(index);
      try {
        client ??= await connect(options.url);
        await transaction(client, random, options);
        committed++;
      } catch (error) {
        // Writers may see only lost connections and deadlocks; embedd must never cause another error.
        if (error instanceof pg.DatabaseError && error.code !== "40P01" && !/^(57|08)/.test(error.code ?? ""))
          throw error;
        if (!(error instanceof pg.DatabaseError) || error.code !== "40P01") {
          await client?.end().catch(() => undefined);
          client = null;
          await sleep(50);
        }
      } finally {
        busy.delete(index);
      }
      await sleep(random() * options.pauseMs);
    }
    await client?.end().catch(() => undefined);
  }

  return {
    get committed() {
      return committed;
    },
    async pause() {
      if (!paused) {
        paused = true;
        resumed = new Promise((resolve) => (resume = resolve));
      }
      while (busy.size > 0) await sleep(5);
    },
    resume() {
      paused = false;
      resume();
    },
    async stop() {
      stopped = true;
      paused = false;
      resume();
      await Promise.all(loops);
    },
  };
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: "faults writer" });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

async function transaction(client: pg.Client, random: Random, options: WriterOptions): Promise<void> {
  await client.query("begin");
  try {
    for (let i = between(random, 1, 3); i > 0; i--) await change(client, random, options);
    // Some applications hold their locks for a while.
    if (random() < 0.05) await sleep(random() * 400);
    await client.query(random() < 0.1 ? "rollback" : "commit");
  } catch (error) {
    await client.query("rollback").catch(() => undefined);
    throw error;
  }
}

/** A few rows, often among the newest, which are likely in flight. */
const someOf = (table: string): string =>
  `id in (select id from ${table} where id >= (select coalesce(max(id), 0) * $1::float8 from ${table}) order by id limit $2)`;

async function change(
  client: pg.Client,
  random: Random,
  { table = "notes", rows }: WriterOptions,
): Promise<void> {
  const some = someOf(table);
  const where = [
    random() < 0.5 ? 0.98 + random() / 50 : random(),
    random() < 0.05 ? 40 : between(random, 1, 3),
  ];
  const share = random();
  if (share < 0.4) {
    const texts = Array.from({ length: random() < 0.05 ? 60 : between(random, 1, 4) }, () => text(random));
    await client.query(`insert into ${table} (body) select unnest($1::text[])`, [texts]);
  } else if (share < 0.75) {
    await client.query(
      `update ${table} set body = $3, version = version + (body is distinct from $3)::integer where ${some}`,
      [...where, text(random)],
    );
  } else if (share < 0.82) {
    // Requests a new vector.
    await client.query(`update ${table} set embedding = null, version = version + 1 where ${some}`, where);
  } else if (share < 0.86) {
    await client.query(`select from ${table} where ${some} for update`, where);
  } else {
    await client.query(
      `delete from ${table} where ${some} or id < (select max(id) from ${table}) - $3::bigint`,
      [...where, rows],
    );
  }
}
