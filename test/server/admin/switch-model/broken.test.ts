import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../../../helpers/database.js";
import { spawnCli } from "../../../helpers/cli.js";

const db = useDatabase();
const embedd = (...args: string[]) => spawnCli(args, { env: { DATABASE_URL: db.url } }).exited;

describeServer("switch-model after a new column was dropped", () => {
  it("reports it, and can be aborted", async () => {
    await db.query(`create table docs (id int primary key, body text, embedding vector(16), embedding_model text);
      select embedd.watch('docs', '{body}');
      update embedd.pipelines set served_model = 'old' where relation = 'docs'::regclass;
      select embedd.begin_switch('docs', 'embedding', 'new', 8, null, false);
      alter table docs drop column embedding_next cascade`);
    expect(await embedd("switch-model", "docs", "--status")).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(
        "needs is gone; undo it with: embedd switch-model public.docs --abort",
      ) as string,
    });
    expect(await embedd("switch-model", "docs", "--model", "new", "--dimensions", "8")).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("needs is gone") as string,
    });
    expect(await embedd("switch-model", "docs", "--abort")).toMatchObject({
      code: 0,
      stdout: "public.docs stays with old\n",
    });
    const { rows } = await db.query(
      "select model, shadow_of from embedd.pipelines where relation = 'docs'::regclass",
    );
    expect(rows).toEqual([{ model: null, shadow_of: null }]);
    await db.query("insert into docs values (1, 'text')");
  });
});
