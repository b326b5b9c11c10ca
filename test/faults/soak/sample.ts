import type pg from "pg";
import type { WorkerSlot } from "../workers.js";
import type { Figure } from "./figures.js";

/** A worker whose memory is measured. */
export interface Subject {
  slot: WorkerSlot;
  /** Whether faults never kill it, so that what it leaks adds up. */
  lasting: boolean;
}

export interface Sampler {
  readonly figures: readonly Figure[];
  /** Takes one sample; what does not answer, such as a frozen worker or a stopped server, is left out. */
  take(switches: number): Promise<void>;
}

export function createSampler(pool: pg.Pool, subjects: readonly Subject[]): Sampler {
  const figures = new Map<string, Figure>();
  let before: { wal: number; written: number } | null = null;

  function add(name: string, value: number): void {
    const figure = figures.get(name) ?? { name, values: [] };
    figures.set(name, figure);
    figure.values.push(value);
  }

  async function sampleWorkers(): Promise<void> {
    const restarted: number[] = [];
    for (const { slot, lasting } of subjects) {
      const rss = (await slot.residentBytes()) / 2 ** 20;
      if (rss === 0) continue;
      if (!lasting) {
        restarted.push(rss);
        continue;
      }
      add(`RSS of ${slot.name} in MB`, rss);
      const holdings = await slot.holdings();
      if (holdings === null) continue;
      add(`heap of ${slot.name} in MB`, holdings.heapBytes / 2 ** 20);
      add(`resources of ${slot.name}`, holdings.resources);
      add(`listener warnings of ${slot.name}`, holdings.listenerWarnings);
    }
    if (restarted.length > 0) add("RSS of restarted workers in MB", Math.max(...restarted));
  }

  async function sampleServer(switches: number): Promise<void> {
    const connections = await pool.query<{ name: string; count: number }>(`
select a.name, count(s.pid)::int as count
from (values ('embedd worker'), ('embedd presence'), ('embedd listener')) as a (name)
left join pg_stat_activity s on s.application_name = a.name
group by a.name
union all
select 'others of embedd', count(*)::int from pg_stat_activity
where application_name like 'embedd%'
  and application_name not in ('embedd worker', 'embedd presence', 'embedd listener')
order by name`);
    for (const { name, count } of connections.rows) add(`connections ${name}`, count);
    const workers = await pool.query("select from embedd.workers");
    add("workers", workers.rowCount ?? NaN);
    const tables = await pool.query<{ name: string; bytes: number }>(`
select relname as name, pg_total_relation_size(oid)::float8 as bytes
from pg_class
where relnamespace = 'embedd'::regnamespace and relkind = 'r'
order by relname`);
    for (const { name, bytes } of tables.rows) {
      const { rows } = await pool.query<{ count: number }>(
        `select count(*)::int as count from embedd.${name}`,
      );
      const count = rows[0]?.count ?? NaN;
      if (name === "usage") add("rows of usage per switch", count / (switches + 1));
      else add(`rows of ${name}`, count);
      add(`size of ${name} in kB`, bytes / 1_024);
    }
    const { rows } = await pool.query<{ wal: number; written: number }>(
      "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 as wal, last_value::float8 as written from written",
    );
    const [now] = rows;
    if (now === undefined) return;
    if (before !== null && now.written > before.written)
      add("WAL bytes per vector", (now.wal - before.wal) / (now.written - before.written));
    before = now;
  }

  return {
    get figures() {
      return [...figures.values()];
    },
    async take(switches) {
      await sampleWorkers();
      // A fault may have stopped the server.
      await sampleServer(switches).catch(() => undefined);
    },
  };
}
