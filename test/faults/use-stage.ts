import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, inject, onTestFailed } from "vitest";
import { hashVector } from "../helpers/hash-vector.mjs";
import { waitFor } from "../helpers/wait.js";
import { WITHOUT_TIMERS } from "../helpers/worker.js";
import { check } from "./checker.js";
import type { Checked } from "./checker.js";
import { findBinaries } from "./cluster.js";
import { openStage } from "./stage.js";
import type { Stage } from "./stage.js";
import type { WorkerSettings } from "./workers.js";

const DIMENSIONS = 16;

/** Defines tests that start their own server. They run only with TEST_DATABASE_URL, once per CI run. */
export function describeFaults(name: string, define: () => void): void {
  const usable = findBinaries() !== null && inject("databaseTemplate").kind === "server";
  if (usable) describe(name, define);
  else describe.skip(`${name} [needs TEST_DATABASE_URL, and PostgreSQL's programs on this machine]`, define);
}

export interface TestStage extends Omit<Stage, "close"> {
  /** Inserts notes with new texts. */
  write(count: number): Promise<void>;
  /** Waits until no row is pending. */
  embedded(): Promise<void>;
  /** Runs the checker; see `check`. */
  check(): Promise<Checked>;
  /** Takes one of the schema's locks. @returns a function that releases it */
  lock(key: number): Promise<() => Promise<void>>;
  /** Waits until a lock blocks a worker's statement that contains `words`. @returns the backend's pid */
  blocked(words: string): Promise<number>;
}

/** Sets up a stage for the tests of one file; no worker runs at the start of a test. */
export function useStage(workers: number, settings: Partial<WorkerSettings> = {}): TestStage {
  let current: Stage | undefined;
  let texts = 0;
  const locks = new Set<pg.PoolClient>();
  const get = (): Stage => {
    if (current === undefined) throw new Error("the stage opens in beforeAll");
    return current;
  };
  beforeAll(async () => {
    current = await openStage({
      workers,
      settings: {
        provider: "hash",
        dimensions: DIMENSIONS,
        latencyMs: 0,
        shutdownMs: 5_000,
        ...settings,
        worker: { ...WITHOUT_TIMERS, ...settings.worker },
      },
    });
  });
  afterEach(async () => {
    const { slots, pool } = get();
    for (const client of locks) client.release(true);
    locks.clear();
    for (const { proxy, kill } of slots) {
      proxy.resume();
      proxy.accept();
      await kill();
      proxy.closeSilent("both");
    }
    await pool.query("truncate notes, audit, injected, embedd.failures, embedd.leases");
  });
  afterAll(() => current?.close());

  async function pending(): Promise<number> {
    const { rows } = await get().pool.query<{ n: number }>(
      "select count(*)::int as n from notes where embedding is null",
    );
    return rows[0]?.n ?? NaN;
  }

  return {
    get cluster() {
      return get().cluster;
    },
    get pool() {
      return get().pool;
    },
    get slots() {
      return get().slots;
    },
    async write(count) {
      const bodies = Array.from({ length: count }, () => `note ${++texts}`);
      await get().pool.query("insert into notes (body) select unnest($1::text[])", [bodies]);
    },
    async embedded() {
      onTestFailed(() => {
        for (const { name, log } of current?.slots ?? []) console.error(`${name}: ${log}`);
      });
      await waitFor(async () => (await pending()) === 0, { what: "all vectors", intervalMs: 5 });
    },
    check: () =>
      check(get().pool, {
        reference: (bodies) => Promise.resolve(bodies.map((body) => hashVector(body, DIMENSIONS))),
        minCosine: 1 - 1e-6,
      }),
    async lock(key) {
      const client = await get().pool.connect();
      await client.query("select pg_advisory_lock($1)", [key]);
      locks.add(client);
      return async () => {
        await client.query("select pg_advisory_unlock_all()");
        locks.delete(client);
        client.release();
      };
    },
    blocked: (words) =>
      waitFor(
        async () => {
          const { rows } = await get().pool.query<{ pid: number }>(
            `select pid from pg_stat_activity where application_name = 'embedd worker'
               and wait_event_type = 'Lock' and strpos(query, $1) > 0`,
            [words],
          );
          return rows[0]?.pid;
        },
        { what: `the lock to block a statement with "${words}"`, intervalMs: 5 },
      ),
  };
}

/** Waits a fixed time, to check that something does not happen. */
export const letTimePass = (ms: number): Promise<void> => sleep(ms);
