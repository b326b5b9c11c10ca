import { expect, it } from "vitest";
import { spawnCli } from "../../helpers/cli.js";
import { useDatabase } from "../../helpers/database.js";

const db = useDatabase();

it("run --once prints its warnings before the progress bar, and no estimate before the first row", async () => {
  await db.query(`update embedd.pipelines set served_model = 'old';
    insert into embedd.chunks (source, content) values ('a', 'text')`);
  const { code, stderr } = await spawnCli(["run", "--once"], { env: { DATABASE_URL: db.url } }).exited;
  expect(code, stderr).toBe(0);
  const warning = stderr.search(/takes over embedd\.chunks from old/);
  const bar = stderr.search(/embedding [█░]/);
  expect(warning).toBeGreaterThanOrEqual(0);
  expect(bar).toBeGreaterThan(warning);
  expect(stderr).toMatch(/0\/1 rows \| - rows\/s\n/);
});
