import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { summaryReporter } from "./helpers/summary-reporter.js";

/** Where continuous integration reads the counts from. */
const report = process.env["TEST_REPORT_PATH"];

/*
 * Inside each folder, the files are laid out as in src:
 *   unit    no database, except as the subject of unit/embedded and for the documentation's commands
 *   db      a database: the server of TEST_DATABASE_URL, otherwise embedded PostgreSQL
 *   server  needs that server; server/conformance has the tables and writers of docs/tables.md
 *   security  attacks; those on roles and databases need that server
 *   faults  faults of processes, network and server; starts servers of its own
 */
export default defineConfig({
  root: fileURLToPath(new URL("..", import.meta.url)),
  test: {
    include: ["test/{unit,db,server,security,faults}/**/*.test.ts"],
    globalSetup: ["test/helpers/global-setup.ts"],
    pool: "forks",
    // One more than two processors: many tests wait for a server, a time or a process.
    maxWorkers: 3,
    // A worker process takes one file after the other: starting one for each costs a second of processor time.
    isolate: false,
    allowOnly: false,
    // No measure of speed: longer than `waitFor`, which says what it waited for.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    teardownTimeout: 60_000,
    reporters: [
      "default",
      summaryReporter(),
      ...(report ? [["json", { outputFile: report }] as ["json", { outputFile: string }]] : []),
    ],
  },
});
