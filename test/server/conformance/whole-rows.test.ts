import { expect, it } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";

const db = useDatabase();

interface TableShape {
  name: string;
  ddl: string;
  embedding: string;
  model: string;
}

const shapes: TableShape[] = [
  {
    name: "usual",
    ddl: "create table usual (id int primary key, body text, embedding vector(2), embedding_model text)",
    embedding: "embedding",
    model: "embedding_model",
  },
  {
    name: "renamed",
    ddl: `create table renamed (id int primary key, dropped int, other jsonb default '{"a": [1]}', body text,
      "my vec" halfvec(2), "my model" varchar(20), upper text generated always as (upper(body)) stored);
      alter table renamed drop column dropped`,
    embedding: '"my vec"',
    model: '"my model"',
  },
  {
    name: "parts",
    ddl: `create table parts (id int primary key, body text, embedding vector(2), embedding_model text)
        partition by range (id);
      create table parts_1 partition of parts for values from (0) to (10) partition by range (id);
      create table parts_1_1 (unused int, embedding_model text, embedding vector(2), id int not null, body text);
      alter table parts_1_1 drop column unused;
      alter table parts_1 attach partition parts_1_1 for values from (0) to (10)`,
    embedding: "embedding",
    model: "embedding_model",
  },
];

/** The vector of text n is [n, 1] by the model "current", and [n, 2] by "next". */
const second = (model: string): number => (model === "current" ? 1 : 2);

/** The worker's model is "current". */
async function watchShape({ name, ddl, embedding, model }: TableShape): Promise<void> {
  const unquoted = (column: string): string => column.replaceAll('"', "");
  await db.query(ddl);
  await db.query("select embedd.watch($1, '{body}', $2, $3)", [name, unquoted(embedding), unquoted(model)]);
  await db.query("update embedd.pipelines set served_model = 'current' where relation = $1::regclass", [
    name,
  ]);
}

type Save = (shape: TableShape, row: { body: string; vector: string | null; model: string | null }) => string;

const quoteOrNull = (value: string | null): string => (value === null ? "null" : `'${value}'`);
const values = (row: Parameters<Save>[1]): string =>
  `1, '${row.body}', ${quoteOrNull(row.vector)}, ${quoteOrNull(row.model)}`;

const saves: Record<string, Save> = {
  UPDATE: ({ name, embedding, model }, row) =>
    `update ${name} set (id, body, ${embedding}, ${model}) = (${values(row)}) where id = 1`,
  "ON CONFLICT": ({ name, embedding, model }, row) =>
    `insert into ${name} (id, body, ${embedding}, ${model}) values (${values(row)})
     on conflict (id) do update set body = excluded.body, ${embedding} = excluded.${embedding},
       ${model} = excluded.${model}`,
  MERGE: ({ name, embedding, model }, row) =>
    `merge into ${name} t using (values (1)) as saved (id) on t.id = saved.id
     when matched then update set (id, body, ${embedding}, ${model}) = row(${values(row)})
     when not matched then insert (id, body, ${embedding}, ${model}) values (${values(row)})`,
};

/** All orders of some steps, up to a length. */
function orders<T>(steps: readonly T[], length: number): T[][] {
  if (length === 0) return [[]];
  return [[], ...orders(steps, length - 1).flatMap((rest) => steps.map((step) => [step, ...rest]))];
}

const steps = [
  "read",
  "edit",
  "embed",
  "switch",
  "save unchanged",
  "save edited",
  "save the same edit",
] as const;

describeServer("an application that saves whole rows", () => {
  for (const shape of shapes) {
    it(`leaves no vector of another text behind, in any order of read, edit, save, embed and switch (${shape.name})`, async () => {
      await watchShape(shape);
      const { name, embedding, model } = shape;
      const stale: string[] = [];
      const client = await db.pool.connect();
      try {
        await client.query("begin");
        const useModel = (former: string | null, current: string) =>
          client.query(
            `update embedd.pipelines set served_model = $2,
               former_models = case when $3::text is null then '{}' else former_models || $3 end
             where relation = $1::regclass`,
            [name, current, former],
          );
        for (const [how, save] of Object.entries(saves)) {
          for (const order of orders(steps, 3)) {
            await client.query(
              `delete from ${name};
               insert into ${name} (id, body, ${embedding}, ${model}) values (1, '1', '[1,1]', 'current')`,
            );
            const read = async () => {
              const { rows } = await client.query<Parameters<Save>[1]>(
                `select body, ${embedding}::text as vector, ${model} as model from ${name}`,
              );
              return rows[0] ?? { body: "", vector: null, model: null };
            };
            let copy = await read();
            let current = "current";
            await useModel(null, current);
            for (const step of [...order, "save edited"]) {
              if (step === "read") copy = await read();
              else if (step === "edit") await client.query(`update ${name} set body = '2'`);
              else if (step === "save unchanged") await client.query(save(shape, copy));
              else if (step === "save edited") await client.query(save(shape, { ...copy, body: "3" }));
              else if (step === "save the same edit") await client.query(save(shape, { ...copy, body: "2" }));
              else if (step === "switch") {
                const former = current;
                current = former === "current" ? "next" : "current";
                await useModel(former, current);
                await client.query(
                  `update ${name} set ${embedding} = format('[%s,%s]', body, ${second(current)})::vector(2),
                     ${model} = '${current}'`,
                );
              } else
                await client.query(
                  `update ${name} set ${embedding} = format('[%s,%s]', body, ${second(current)})::vector(2),
                     ${model} = '${current}'
                   where ${embedding} is null`,
                );
              const now = await read();
              if (now.vector !== null && now.vector !== `[${now.body},${second(current)}]`)
                stale.push(`${how}: ${order.join(", ")}`);
            }
          }
        }
      } finally {
        await client.query("rollback");
        client.release();
      }
      expect(stale).toEqual([]);
    }, 600_000);
  }

  it("with MERGE loses the vector of the old text", async () => {
    await db.query(`create table merged (id int primary key, body text, embedding vector(2), embedding_model text);
      select embedd.watch('merged', '{body}');
      insert into merged values (1, '1', '[1,1]', 'm')`);
    await db.query(`merge into merged t using (values (1, '2', '[1,1]'::vector, 'm')) s (id, body, embedding, model)
      on t.id = s.id
      when matched then update set body = s.body, embedding = s.embedding, embedding_model = s.model`);
    expect((await db.query("select * from merged")).rows).toEqual([
      { id: 1, body: "2", embedding: null, embedding_model: null },
    ]);
  });
});

describeServer("a writer that brings its own vector", () => {
  const insert = `truncate own; insert into own values (1, 'one', '[1,1]', 'current')`;
  it.each([
    [
      "keeps it if it names another model",
      "body = 'two', embedding = '[2,1]', embedding_model = 'mine'",
      "[2,1]",
    ],
    [
      "loses it if it names the current model",
      "body = 'two', embedding = '[2,1]', embedding_model = 'current'",
      null,
    ],
    ["loses it if it names no model", "body = 'two', embedding = '[2,1]', embedding_model = null", null],
    ["loses it if it leaves the model", "body = 'two', embedding = '[2,1]'", null],
    ["keeps it if it changes no text and names no text column", "embedding = '[2,1]'", "[2,1]"],
  ])("%s", async (_, assignments, vector) => {
    await db.query(`create table if not exists own
        (id int primary key, body text, embedding vector(2), embedding_model text)`);
    if ((await db.query("select from embedd.pipelines where relation = 'own'::regclass")).rowCount === 0)
      await db.query("select embedd.watch('own', '{body}')");
    await db.query("update embedd.pipelines set served_model = 'current' where relation = 'own'::regclass");
    await db.query(insert);
    await db.query(`update own set ${assignments}`);
    expect((await db.query("select embedding::text as vector from own")).rows).toEqual([{ vector }]);
  });

  it("by replication keeps it, unless the text changes with it", async () => {
    await db.query(`create table replicated (id int primary key, body text, embedding vector(2), embedding_model text);
      select embedd.watch('replicated', '{body}');
      insert into replicated values (1, 'one', '[1,1]', 'm')`);
    const client = await db.pool.connect();
    try {
      await client.query("set session_replication_role = replica");
      await client.query("update replicated set body = 'one', embedding = '[3,1]', embedding_model = 'm'");
      expect((await client.query("select embedding::text as vector from replicated")).rows).toEqual([
        { vector: "[3,1]" },
      ]);
      await client.query("update replicated set body = 'two', embedding = '[3,1]', embedding_model = 'm'");
      expect((await client.query("select embedding::text as vector from replicated")).rows).toEqual([
        { vector: null },
      ]);
    } finally {
      await client.query("reset session_replication_role");
      client.release();
    }
  });
});

describeServer("a trigger of embedd on a table that does not fit it", () => {
  it.each([
    ["has no such columns", "id int primary key, body text", "'vec', 'vec_model'"],
    [
      "has columns of other types",
      "id int primary key, body text, embedding text, embedding_model int",
      "'embedding', 'embedding_model'",
    ],
    ["lacks the arguments", "id int primary key, body text, embedding vector(2), embedding_model text", ""],
    [
      "refuses NULL",
      "id int primary key, body text, embedding vector(2) not null default '[1,1]', embedding_model positive",
      "'embedding', 'embedding_model'",
    ],
  ])("changes nothing and fails no writer: the table %s", async (what, columns, names) => {
    const relation = `misfit_${what.replaceAll(/\W/g, "_")}`;
    await db.query(`do $$ begin create domain positive as text check (value <> 'x' and value is not null);
      exception when duplicate_object then null; end $$`);
    await db.query(`create table ${relation} (${columns});
      create trigger zzz_embedd_999__before_edit before update on ${relation}
        for each row execute function embedd.tg_forget_vector__before_update(${names});
      create trigger zzz_embedd_999__after_update after update on ${relation}
        for each row execute function embedd.tg_wake__after_write(999)`);
    const extra = columns.includes("positive") ? ", embedding_model" : "";
    await db.query(`insert into ${relation} (id, body${extra}) values (1, 'one'${extra && ", 'm'"})`);
    await db.query(`update ${relation} set body = 'two'`);
    expect((await db.query(`select body from ${relation}`)).rows).toEqual([{ body: "two" }]);
  });

  it("fails no writer where it cannot wake a worker", async () => {
    await db.query(`create table mute (id int primary key);
      create trigger zzz_embedd_999__after_insert after insert on mute
        execute function embedd.tg_wake__after_write('not a number');
      insert into mute values (1)`);
    expect((await db.query("select from mute")).rowCount).toBe(1);
  });

  it("never runs the code of the table's owner with embedd's rights", async () => {
    await db.query(`create table spied (role text);
      create function spy(text) returns boolean language plpgsql as $$
        begin insert into spied values (current_user); return true; end $$;
      create domain spying as text check (spy(value));
      create table lure (id int primary key, body text, embedding vector(2), embedding_model spying, other spying);
      create trigger t before update on lure for each row
        execute function embedd.tg_forget_vector__before_update('embedding', 'embedding_model');
      insert into lure values (1, 'one', '[1,1]', 'm', 'o');
      truncate spied;
      update lure set body = 'two'`);
    expect((await db.query("select * from spied")).rows).toEqual([]);
  });
});
