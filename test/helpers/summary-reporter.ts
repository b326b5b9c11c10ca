import type { Reporter, TestModule } from "vitest/node";

/** What `describeServer` puts into the names of tests that need a server. */
const NEEDS_SERVER = "[needs a PostgreSQL server";

/** Says at the end of an embedded run how many tests were skipped for want of a server, and what runs them. */
export function summaryReporter(): Reporter {
  return {
    onTestRunEnd(modules: readonly TestModule[]) {
      if (process.env["TEST_DATABASE_URL"]) return;
      const skipped = modules
        .flatMap((module) => [...module.children.allTests("skipped")])
        .filter((test) => test.fullName.includes(NEEDS_SERVER)).length;
      if (skipped === 0) return;
      console.log(
        `${skipped} tests were skipped, because they need a PostgreSQL server with pgvector:\n` +
          "  TEST_DATABASE_URL=postgres://… npm test\n",
      );
    },
  };
}
