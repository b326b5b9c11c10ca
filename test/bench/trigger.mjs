/** (d) Single-row inserts by 8 clients: what a trigger costs writers. */
import pg from "pg";
import { median } from "./statistics.mjs";

const CLIENTS = 8;

/** No worker runs here, so none holds the gate: embedd's trigger behaves as while a worker is awake. */
const CONTENDERS = {
  "no trigger": "",
  "embedd's trigger, worker awake": "select embedd.watch('bench_inserts', '{content}')",
  "a plain NOTIFY trigger": `create function bench_notify() returns trigger language plpgsql as $$
    begin perform pg_notify('bench', 'x'); return null; end $$;
    create trigger bench after insert on bench_inserts for each statement execute function bench_notify()`,
  "a queue row per row": `create table bench_queue (id bigint primary key);
    create function bench_enqueue() returns trigger language plpgsql as $$
    begin insert into bench_queue values (new.id); return null; end $$;
    create trigger bench after insert on bench_inserts for each row execute function bench_enqueue()`,
};

export async function benchTrigger(url, rounds, secondsEach) {
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      const client = new pg.Client(url);
      await client.connect();
      return client;
    }),
  );
  const rates = Object.fromEntries(Object.keys(CONTENDERS).map((name) => [name, []]));
  try {
    for (let round = 0; round < rounds + 1; round++) {
      for (const [name, setup] of Object.entries(CONTENDERS)) {
        const [first] = clients;
        await first.query(`create table bench_inserts (id bigint generated always as identity primary key,
          content text, embedding vector(384), embedding_model text)`);
        if (setup !== "") await first.query(setup);
        const rate = await insertFor(clients, secondsEach);
        // The first round warms up.
        if (round > 0) rates[name].push(rate);
        if (name.startsWith("embedd")) await first.query("select embedd.unwatch('bench_inserts')");
        await first.query(`drop table bench_inserts; drop table if exists bench_queue;
          drop function if exists bench_notify; drop function if exists bench_enqueue`);
      }
    }
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
  const ratio = (name, base) => median(rates[name].map((rate, i) => rate / rates[base][i]));
  return { rates, ratio };
}

async function insertFor(clients, seconds) {
  const end = performance.now() + seconds * 1000;
  const counts = await Promise.all(
    clients.map(async (client) => {
      let count = 0;
      for (; performance.now() < end; count++) {
        await client.query(
          "insert into bench_inserts (content) values ('A row of text that somebody writes.')",
        );
      }
      return count;
    }),
  );
  return counts.reduce((sum, n) => sum + n, 0) / seconds;
}
