import pg from "pg";
import { messageOf } from "#embedd/errors.js";
import { createCluster } from "./cluster.js";
import type { Cluster } from "./cluster.js";
import { createSchema } from "./schema.js";
import { createSlot } from "./workers.js";
import type { WorkerSettings, WorkerSlot } from "./workers.js";

/** The test environment: a private server with the watched table, and slots for worker processes, none started. */
export interface Stage {
  cluster: Cluster;
  /** The harness's connections: as superuser, not through a proxy. */
  pool: pg.Pool;
  slots: WorkerSlot[];
  /** Stops everything; with `keepServer`, leaves the server running for inspection. */
  close(options?: { keepServer?: boolean }): Promise<void>;
}

export interface StageOptions {
  workers: number;
  settings: WorkerSettings;
  onExit?: (slot: WorkerSlot, code: number | null, signal: NodeJS.Signals | null) => void;
}

export async function openStage({ workers, settings, onExit }: StageOptions): Promise<Stage> {
  const cluster = await createCluster();
  const slots: WorkerSlot[] = [];
  const pool = new pg.Pool({
    connectionString: cluster.url("postgres"),
    application_name: "faults harness",
    max: 12,
  });
  pool.on("error", () => undefined);
  pool.on("connect", (client) => client.on("error", () => undefined));
  const stage: Stage = {
    cluster,
    pool,
    slots,
    async close({ keepServer = false } = {}) {
      await Promise.all(slots.map((slot) => slot.close()));
      await pool.end();
      if (keepServer)
        console.error(
          `the server is still running\n  connect: psql ${cluster.url("postgres")}\n  stop:    ${cluster.howToStop}`,
        );
      else await cluster.destroy();
    },
  };
  try {
    await createSchema(cluster, settings.dimensions);
    for (let i = 0; i < workers; i++) slots.push(await createSlot(cluster, `worker ${i}`, settings, onExit));
    return stage;
  } catch (error) {
    await stage.close();
    throw new Error(`cannot set up the test environment: ${messageOf(error)}`, { cause: error });
  }
}
