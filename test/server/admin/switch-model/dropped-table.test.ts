import { expect, it } from "vitest";
import { switchModel } from "#embedd/admin/switch-model/switch-model.js";
import { withOwnerClient } from "#embedd/database/pool.js";
import { describeServer, useDatabase } from "../../../helpers/database.js";

const db = useDatabase();

describeServer("switch-model of a table that was dropped", () => {
  it("is refused with what to type", async () => {
    await db.query(`
      create table docs (id int primary key, body text, embedding vector(2), embedding_model text);
      select embedd.watch('docs', '{body}');
      update embedd.pipelines set served_model = 'old' where relation = 'docs'::regclass;
      drop table docs`);
    const options = { relation: "public.docs", embedding: "embedding", model: "new", dimensions: 2 };
    await expect(withOwnerClient(db.url, (client) => switchModel(client, options))).rejects.toMatchObject({
      code: "no_such_table",
      message: "table public.docs was dropped",
      hint: "embedd status",
    });
  });

  it("does not keep a table that is created again from being watched", async () => {
    const create =
      "create table again (id int primary key, body text, embedding vector(2), embedding_model text)";
    await db.query(`${create};
      select embedd.watch('again', '{body}', model => 'old');
      select embedd.begin_switch('again', 'embedding', 'new', 2, null, true);
      drop table again;
      ${create};
      select embedd.watch('again', '{body}')`);
    const { rows } = await db.query(
      "select embedding_column from embedd.pipelines where relation_name = 'again'",
    );
    expect(rows).toEqual([{ embedding_column: "embedding" }]);
  });
});
