import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { between, pick } from "../faults/random.js";
import type { Random } from "../faults/random.js";
import { Violation, nameOf, newText, quote, readRows, trust } from "./table.js";
import type { World } from "./table.js";

/** A step that the application or the table's owner takes without embedd. */
export type Act = (world: World, random: Random) => Promise<string>;

const someRow = (world: World, random: Random): string =>
  `id = (select id from ${nameOf(world.table)} order by id offset ${between(random, 0, 5)} limit 1)`;

/** No statement of a writer may fail because of embedd. */
async function write(world: World, statement: string, params: unknown[] = []): Promise<string> {
  try {
    const { rowCount } = await world.stage.writer.query(statement, params);
    return `${rowCount ?? 0} rows`;
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error;
    throw new Violation(
      `a writer's statement failed with ${error.code ?? ""}: ${error.message} (${error.where ?? ""})\n  ${statement}`,
    );
  }
}

const insert: Act = (world, random) => {
  const { table } = world;
  const count = between(random, 1, 3);
  const texts = Array.from({ length: count }, () => newText(random));
  const titles = Array.from({ length: count }, () => newText(random));
  return write(
    world,
    `insert into ${nameOf(table)} (${quote(table.title)}, ${quote(table.body)})
     select * from unnest($1::text[], $2::text[])`,
    [titles, texts],
  );
};

/** Workers have the row in flight then, and the next edit meets it there. */
const MOST_PAUSE_MS = 40;

const edit: Act = async (world, random) => {
  const { table } = world;
  const column = random() < 0.7 ? table.body : table.title;
  const where = random() < 0.2 ? "true" : someRow(world, random);
  const text = newText(random);
  const answer = await write(world, `update ${nameOf(table)} set ${quote(column)} = $1 where ${where}`, [
    text,
  ]);
  await sleep(random() * MOST_PAUSE_MS);
  return answer;
};

const remove: Act = (world, random) =>
  write(world, `delete from ${nameOf(world.table)} where ${someRow(world, random)}`);

/** Writes that touch no column of embedd, so that they may also run while a command changes those. */
export async function burst(world: World, random: Random, over: () => boolean): Promise<string> {
  let count = 0;
  for (; count < 400 && (count < 3 || !over()); count++) {
    await pick(random, [insert, edit, edit, edit, remove])(world, random);
    await sleep(2 + random() * 6);
  }
  return `${count} writes meanwhile`;
}

/** The application reads rows, to save them later. */
const read: Act = async (world) => {
  world.held = await readRows(world.stage.writer, world.table);
  return `${world.held.length} rows`;
};

/** An ORM: saves a whole row as it was read, often with a new text. */
const save: Act = async (world, random) => {
  const { table, held } = world;
  if (held.length === 0) return "nothing was read";
  const row = { ...pick(random, held) };
  if (random() < 0.6) row.body = newText(random);
  // A writer that names another model than the current one brings its own vector.
  if (row.vector !== null && row.model !== null && !(await currentModels(world)).includes(row.model))
    trust(world, row);
  return write(
    world,
    `update ${nameOf(table)} set ${quote(table.title)} = $2, ${quote(table.body)} = $3,
       ${quote(table.embedding)} = $4, ${quote(table.model)} = $5 where id = $1`,
    [row.id, row.title, row.body, row.vector, row.model],
  );
};

async function currentModels(world: World): Promise<string[]> {
  if (!world.installed) return [];
  const { rows } = await world.stage.observer.query<{ model: string }>(
    "select coalesce(model, served_model) as model from embedd.pipelines where shadow_of is null",
  );
  return rows.map(({ model }) => model);
}

const clear: Act = (world, random) =>
  write(
    world,
    `update ${nameOf(world.table)} set ${quote(world.table.embedding)} = null where ${someRow(world, random)}`,
  );

const ddl = async (world: World, statement: string): Promise<string> => {
  await world.stage.admin.query(statement);
  return statement;
};

/**
 * A table that took the watched one's name and gives it up again, before anybody repaired that, was never watched:
 * embedd follows the first one from then on.
 */
async function giveUpName(world: World): Promise<void> {
  if (!world.installed) return;
  const { rowCount } = await world.stage.observer.query(
    "select from embedd.pipelines where relation = to_regclass($1)",
    [nameOf(world.table)],
  );
  if (rowCount === 0) world.watched = false;
}

const renameTable: Act = async (world) => {
  await giveUpName(world);
  const before = nameOf(world.table);
  world.table.name = `docs_${++world.names}`;
  return ddl(world, `alter table ${before} rename to ${quote(world.table.name)}`);
};

const renameColumn: Act = (world, random) => {
  const which = pick(random, ["title", "body", "embedding", "model"] as const);
  const before = world.table[which];
  world.table[which] = `${which}_${++world.names}`;
  return ddl(
    world,
    `alter table ${nameOf(world.table)} rename column ${quote(before)} to ${quote(world.table[which])}`,
  );
};

const setSchema: Act = async (world) => {
  await giveUpName(world);
  const before = nameOf(world.table);
  world.table.schema = world.table.schema === "public" ? "other" : "public";
  return ddl(world, `alter table ${before} set schema ${quote(world.table.schema)}`);
};

function run(program: string, args: string[], input = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      args,
      { maxBuffer: 1 << 26, timeout: 120_000 },
      (error, stdout, stderr) => {
        if (error === null) resolve(`${stdout}${program === "psql" ? stderr : ""}`);
        else reject(new Error(`${program}: ${stderr}`, { cause: error }));
      },
    );
    child.stdin?.end(input);
  });
}

const dump: Act = async (world) => {
  const script = await run("pg_dump", ["-t", nameOf(world.table), world.stage.url]);
  world.dump = { script, table: { ...world.table } };
  return `of ${nameOf(world.table)}`;
};

const drop: Act = async (world, random) => {
  if (world.dump === null || random() < 0.7) await dump(world, random);
  world.table.exists = false;
  return ddl(world, `drop table ${nameOf(world.table)}`);
};

/** Brings the dump back, also over a table that is there. */
const restore: Act = async (world) => {
  if (world.dump === null) return "there is no dump";
  if (world.table.exists) await ddl(world, `drop table ${nameOf(world.table)}`);
  await ddl(world, `drop table if exists ${nameOf(world.dump.table)}`);
  const output = await run("psql", ["-X", "-q", world.stage.url], world.dump.script);
  world.table = { ...world.dump.table };
  await readRows(world.stage.admin, world.table);
  return `of ${nameOf(world.table)} ${output.includes("ERROR") ? output : ""}`;
};

const recreate: Act = (world) => {
  const { title, body, embedding, model } = world.table;
  return ddl(
    world,
    `begin; drop table ${nameOf(world.table)};
     create table ${nameOf(world.table)} (id int generated by default as identity primary key, ${quote(body)} text,
       ${quote(title)} text, ${quote(embedding)} vector(8), ${quote(model)} text); commit`,
  );
};

/** A migration that rebuilds the table and swaps the names. */
const swap: Act = (world, random) => {
  const name = nameOf(world.table);
  const old = `old_${++world.names}`;
  const after = random() < 0.5 ? `drop table ${quote(world.table.schema)}.${quote(old)};` : "";
  return ddl(
    world,
    `begin; create table ${quote(world.table.schema)}.next (like ${name} including all);
     insert into ${quote(world.table.schema)}.next select * from ${name};
     select setval(pg_get_serial_sequence('${quote(world.table.schema)}.next', 'id'), 1000 * ${world.names});
     alter table ${name} rename to ${quote(old)};
     alter table ${quote(world.table.schema)}.next rename to ${quote(world.table.name)}; ${after} commit`,
  );
};

const disableTriggers: Act = async (world) => {
  const statement = await ddl(world, `alter table ${nameOf(world.table)} disable trigger user`);
  await noticed(world);
  return statement;
};

/** A worker looks at the triggers now and then; nothing announces that they were off for less time than that. */
async function noticed(world: World): Promise<void> {
  if (!world.installed) return;
  for (let i = 0; i < 40; i++) {
    const { rowCount } = await world.stage.observer.query(
      `select from embedd.pipelines p where p.relation = to_regclass($1) and p.gap is null and p.error is null
         and embedd.find_gap(p) is not null`,
      [nameOf(world.table)],
    );
    if (rowCount === 0) return;
    await sleep(50);
  }
  // No worker serves it, so the owner tells embedd.
}

const enableTriggers: Act = (world) => ddl(world, `alter table ${nameOf(world.table)} enable trigger user`);

const dropColumn: Act = (world, random) => {
  const { embedding, model } = world.table;
  const [column, type] = random() < 0.6 ? [embedding, "vector(8)"] : [model, "text"];
  world.held = [];
  return ddl(
    world,
    `alter table ${nameOf(world.table)} drop column ${quote(column)} cascade;
     alter table ${nameOf(world.table)} add column ${quote(column)} ${type}`,
  );
};

/** PostgreSQL refuses it for a watched column. */
const retypeContent: Act = async (world, random) => {
  const type = pick(random, ["text", "varchar(200)"]);
  const statement = `alter table ${nameOf(world.table)} alter column ${quote(world.table.body)} type ${type}`;
  return ddl(world, statement).catch((error: unknown) => {
    if (error instanceof pg.DatabaseError && error.code === "0A000") return error.message;
    throw error;
  });
};

const changeKey: Act = async (world) => {
  const { rows } = await world.stage.admin.query<{ name: string; columns: number }>(
    `select conname as name, cardinality(conkey) as columns from pg_constraint
     where conrelid = $1::regclass and contype = 'p'`,
    [nameOf(world.table)],
  );
  const [key] = rows;
  if (key === undefined) return "no key";
  return ddl(
    world,
    `begin; alter table ${nameOf(world.table)} add column if not exists tenant int not null default 1;
     alter table ${nameOf(world.table)} drop constraint ${quote(key.name)};
     alter table ${nameOf(world.table)} add primary key (${key.columns === 1 ? "tenant, id" : "id"}); commit`,
  );
};

/** Every step with its weight. All but `restore` need the table. */
export const ACTS: Record<string, { weight: number; act: Act }> = {
  insert: { weight: 5, act: insert },
  edit: { weight: 8, act: edit },
  remove: { weight: 2, act: remove },
  read: { weight: 3, act: read },
  save: { weight: 6, act: save },
  clear: { weight: 2, act: clear },
  "rename table": { weight: 3, act: renameTable },
  "rename column": { weight: 3, act: renameColumn },
  "set schema": { weight: 2, act: setSchema },
  dump: { weight: 1, act: dump },
  drop: { weight: 2, act: drop },
  restore: { weight: 3, act: restore },
  recreate: { weight: 1, act: recreate },
  swap: { weight: 2, act: swap },
  "disable triggers": { weight: 2, act: disableTriggers },
  "enable triggers": { weight: 2, act: enableTriggers },
  "drop column": { weight: 2, act: dropColumn },
  "retype content": { weight: 1, act: retypeContent },
  "change key": { weight: 1, act: changeKey },
};
