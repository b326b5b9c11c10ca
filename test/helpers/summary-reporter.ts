import type { Reporter, TestModule } from "vitest/node";

/** Says at the end of an embedded run how many tests were skipped, and how to run them. */
export function summaryReporter(): Reporter {
  return {
    onTestRunEnd(modules: readonly TestModule[]) {
      if (process.env["TEST_DATABASE_URL"]) return;
      const skipped = modules.flatMap((module) => [...module.children.allTests("skipped")]).length;
      if (skipped === 0) return;
      console.log(
        `${skipped} tests were skipped, because they need a PostgreSQL server with pgvector:\n` +
          "  TEST_DATABASE_URL=postgres://… npm test\n",
      );
    },
  };
}
