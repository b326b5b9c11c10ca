import pg from "pg";
import { beforeAll, expect, it } from "vitest";
import { createProvider } from "#embedd/providers/create-provider.js";
import type { Provider } from "#embedd/providers/provider.js";
import { createWorker } from "#embedd/worker/worker.js";
import type { Worker } from "#embedd/worker/worker.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider } from "../../helpers/providers.js";
import { WITHOUT_TIMERS } from "../../helpers/worker.js";
import { KEYS, NAMES, TEXTS } from "./hostile-input.cases.js";

/* A catalogue: each line says what happens to it, and none stops its neighbours or ends the worker. */

const db = useDatabase();
const id = pg.escapeIdentifier;
/** Another name of the same kind, within PostgreSQL's 63 bytes. */
const suffixed = (name: string, suffix: string): string => name.slice(0, 20) + suffix;
const columns = "body text, embedding vector(384), embedding_model text";

/** Embeds everything that waits, with a worker that must survive it. */
async function embedAll(provider: Provider): Promise<void> {
  const worker: Worker = await createWorker({
    ...WITHOUT_TIMERS,
    databaseUrl: db.url,
    provider,
    reuse: false,
    maxAttempts: 1,
  });
  try {
    await worker.idle();
  } finally {
    await worker.stop();
  }
}

const embeddedIn = async (relation: string): Promise<number> =>
  (await db.query(`select from ${relation} where embedding is not null`)).rowCount ?? 0;

describeServer("a text of", () => {
  const outcomes = new Map<string, string>();
  beforeAll(async () => {
    await db.query(
      `create table texts (id text primary key, ${columns}); select embedd.watch('texts', '{body}')`,
    );
    for (const [name, sql] of TEXTS) {
      const inserted = await db.query(`insert into texts values ($1, ${sql})`, [name]).catch(() => null);
      if (inserted === null) outcomes.set(name, "refused");
      await db.query("insert into texts values ($1, 'a neighbour')", [`${name}: neighbour`]);
    }
    const provider = await createProvider({ provider: "local" });
    try {
      await embedAll(provider);
    } finally {
      await provider.close();
    }
    const { rows } = await db.query<{ id: string; embedded: boolean }>(
      "select id, embedding is not null as embedded from texts",
    );
    for (const row of rows) outcomes.set(row.id, row.embedded ? "embedded" : "blank");
  });

  it.each(TEXTS)("%s: %s is %s", async (name, _, outcome) => {
    expect(outcomes.get(name)).toBe(outcome);
    expect(outcomes.get(`${name}: neighbour`)).toBe("embedded");
    const { rows } = await db.query<{ key: string; code: string }>("select key, code from embedd.failures");
    for (const { key, code } of rows) expect([outcomes.get(key), code]).toEqual(["blank", "white_space"]);
  });
});

describeServer("a key of type", () => {
  beforeAll(async () => {
    for (const [i, [type, keys]] of KEYS.entries()) {
      await db.query(`create table keys_${i} (k ${type} primary key, ${columns})`);
      await db.query(`select embedd.watch('keys_${i}', '{body}')`);
      for (const key of keys) {
        await db.query(`insert into keys_${i} values ($1::text::${type.replace(/ collate.*/, "")}, $2)`, [
          key,
          key + ".",
        ]);
      }
    }
    const parts = Array.from({ length: 32 }, (_, i) => `c${i}`);
    await db.query(`create table wide (${parts.map((c) => `${c} int`).join()}, ${columns}, primary key (${parts.join()}));
      select embedd.watch('wide', '{body}');
      insert into wide select ${parts.map((_, i) => (i === 31 ? "n" : "1")).join()}, 'row ' || n from generate_series(1, 20) n`);
    await embedAll(hashProvider());
  });

  it.each(KEYS.map(([type, keys], i) => [type, keys.length, i] as const))(
    "%s: all %i extreme values get vectors",
    async (_, count, i) => {
      expect(await embeddedIn(`keys_${i}`)).toBe(count);
    },
  );

  it("int in 32 columns gets vectors", async () => {
    expect(await embeddedIn("wide")).toBe(20);
  });
});

describeServer("a schema, table, key, text and embedding column named with", () => {
  beforeAll(async () => {
    for (const [, name] of NAMES) {
      const column = (suffix: string) => id(suffixed(name, suffix));
      await db.query(`create schema ${id(name)};
        create table ${id(name)}.${id(name)} (${column("k")} int primary key, ${id(name)} text,
          ${column("e")} vector(384), ${column("m")} text)`);
      await db.query("select embedd.watch($1, array[$2], $3, $4)", [
        `${id(name)}.${id(name)}`,
        name,
        suffixed(name, "e"),
        suffixed(name, "m"),
      ]);
      await db.query(`insert into ${id(name)}.${id(name)} values (1, 'text'), (2, 'more text')`);
    }
    await embedAll(hashProvider());
  });

  it.each(NAMES)("%s: its rows get vectors, and unwatch restores it", async (_, name) => {
    const e = id(suffixed(name, "e"));
    const relation = `${id(name)}.${id(name)}`;
    expect((await db.query(`select from ${relation} where ${e} is not null`)).rowCount).toBe(2);
    await db.query("select embedd.unwatch($1)", [relation]);
    const left = await db.query("select from pg_trigger where tgrelid = $1::regclass and not tgisinternal", [
      relation,
    ]);
    expect(left.rowCount).toBe(0);
  });
});
