import { createWorker } from "#embedd/worker/worker.js";
import { fixedProvider, withClient } from "./database.mjs";
import { median, timed } from "./statistics.mjs";

/**
 * Rows per second through claim, an instant model and completion, in three cases: reuse off, every text new, and
 * every text seen before. The cases alternate, so that noise affects all three equally.
 */
export async function benchReuse(url, rows, rounds) {
  const rates = { off: [], misses: [], hits: [] };
  let calls = 0;
  for (let round = 0; round < rounds; round++) {
    const text = `'round ${round} text ' || i`;
    for (const [name, reuse] of [
      ["off", false],
      ["misses", true],
      ["hits", true],
    ]) {
      const counted = await load(url, rows, text, reuse);
      rates[name].push((rows / counted.ms) * 1000);
      if (name === "hits") calls += counted.texts;
    }
  }
  return {
    rates: Object.fromEntries(Object.entries(rates).map(([name, values]) => [name, median(values)])),
    ratio: median(rates.misses.map((rate, i) => rate / rates.off[i])),
    computedOfHits: calls,
  };
}

/** Like an ETL tool's reload: creates and embeds a new table; the caller decides whether its texts repeat. */
async function load(url, rows, text, reuse) {
  return withClient(url, async (client) => {
    await client.query(`create table bench_rows (id bigint primary key, content text, embedding vector(384), embedding_model text);
      insert into bench_rows (id, content) select i, ${text} from generate_series(1, ${rows}) i`);
    await client.query("vacuum analyze bench_rows");
    await client.query("select embedd.watch('bench_rows', '{content}')");
    const provider = fixedProvider();
    let texts = 0;
    const counting = {
      ...provider,
      embed: (batch) => {
        texts += batch.length;
        return provider.embed(batch);
      },
    };
    const ms = await timed(async () => {
      const worker = await createWorker({ databaseUrl: url, provider: counting, reuse });
      await worker.idle();
      await worker.stop();
    });
    await client.query("select embedd.unwatch('bench_rows')");
    await client.query("drop table bench_rows");
    return { ms, texts };
  });
}
