import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { status, unwatch } from "#embedd/index.js";
import { createWorker } from "#embedd/worker/worker.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import type { Database } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { hashProvider } from "../../helpers/providers.js";

const db = useDatabase();

async function createReadOnly(): Promise<Database> {
  const docs = await db.createMigratedDatabase();
  await docs.query(
    `create table docs (id int primary key, body text, embedding vector(384), embedding_model text);
     insert into docs values (1, 'one', array_fill(0.5, array[384])::vector, 'all-MiniLM-L6-v2');
     select embedd.watch('docs', '{body}', existing => 'keep');
     insert into docs values (2, 'two');
     do $$ begin
       execute format('alter database %I set default_transaction_read_only = on', current_database());
     end $$`,
  );
  return docs;
}

describeServer("in a database that takes no writes", () => {
  it("commands that write say so, and what to type", async () => {
    const docs = await createReadOnly();
    for (const args of [
      ["run", "--once"],
      ["repair", "docs", "--existing", "keep"],
      ["watch", "docs", "--content", "body", "--template", "{body}.", "--existing", "keep"],
      ["unwatch", "docs"],
      ["retry"],
      ["reembed", "--all", "--no-wait"],
      ["reembed", "--stop"],
      ["pause", "docs"],
      ["resume", "docs"],
      ["grant", "pg_monitor"],
      ["grant", "--owner", "pg_monitor"],
      ["switch-model", "docs", "--abort"],
      ["switch-model", "docs", "--model", "next", "--dimensions", "8"],
      ["uninstall"],
    ]) {
      const { code, stderr } = await spawnCli(args, { env: { DATABASE_URL: docs.url } }).exited;
      expect({ args, code, stderr }).toEqual({
        args,
        code: 1,
        stderr: expect.stringMatching(
          /default_transaction_read_only is on \(database\).*\n {2}try: psql .* RESET default_transaction_read_only/,
        ) as string,
      });
    }
  });

  it("commands that only read work, and embedd doctor names the problem and its cure", async () => {
    const docs = await createReadOnly();
    const env = { DATABASE_URL: docs.url };
    for (const args of [
      ["status"],
      ["failures"],
      ["search", "one", "--table", "docs"],
      ["estimate"],
      ["migrate"],
    ])
      expect(await spawnCli(args, { env }).exited).toMatchObject({ code: 0, stderr: "" });
    const { code, stdout } = await spawnCli(["doctor"], { env }).exited;
    expect(code).toBe(3);
    expect(stdout).toMatch(/^ok .*docs\.embedding/m);
    const [, cure = ""] = /^FAIL .*default_transaction_read_only.*\n {6}try: (.*)$/m.exec(stdout) ?? [];
    await promisify(execFile)("sh", ["-c", cure], { env: { ...process.env, ...env } });
    expect(await spawnCli(["run", "--once"], { env }).exited).toMatchObject({ code: 0 });
    expect((await spawnCli(["doctor"], { env }).exited).stdout).not.toMatch(/FAIL/);
  });

  it("the library throws read_only with a hint", async () => {
    const docs = await createReadOnly();
    const refused = {
      code: "read_only",
      kind: "database",
      hint: expect.stringMatching(/read_only/) as string,
    };
    await expect(unwatch(docs.url, "docs")).rejects.toMatchObject(refused);
    await expect(createWorker({ databaseUrl: docs.url, provider: hashProvider() })).rejects.toMatchObject(
      refused,
    );
    expect(await status(docs.url, { table: "docs" })).toMatchObject([{ pending: 1 }]);
  });
});
