import { setTimeout as sleep } from "node:timers/promises";
import { defaultTemplate, isBlank, parseTemplate, renderTemplate } from "#embedd/worker/embed/template.js";
import { MODELS, vectorOf } from "./stage.js";
import { Violation, isTrusted, nameOf, quote, trust } from "./table.js";
import type { HeldRow, World } from "./table.js";

/** A pipeline, and what `status` says about it. */
export interface Seen {
  id: number;
  relation: string;
  status_relation: string;
  relation_exists: boolean;
  content_columns: string[];
  template: string | null;
  embedding_column: string;
  model_column: string;
  pinned: string | null;
  current_model: string | null;
  /** Of a shadow: the column that is switched to another model. */
  switched: string | null;
  paused: boolean;
  error: string | null;
  gap: string | null;
  refreshing: boolean;
  reembed: boolean;
  pending: number | null;
  failed: number;
  dead: number;
  stale: number | null;
}

export async function readPipelines(world: World): Promise<Seen[]> {
  if (!world.installed) return [];
  const { rows } = await world.stage.observer.query<Seen>(`
    select p.id, p.relation::text, s.relation as status_relation, c.oid is not null as relation_exists,
      p.content_columns, p.template,
      p.embedding_column, p.model_column, p.model as pinned, s.current_model,
      (select old.embedding_column from embedd.pipelines old where old.id = p.shadow_of) as switched,
      s.paused, s.error, s.gap, s.refreshing, s.reembed, s.pending::int, s.failed::int, s.dead::int, s.stale::int
    from embedd.pipelines p
    join embedd.status s on s.pipeline_id = p.id
    left join pg_class c on c.oid = p.relation
    order by p.id`);
  return rows;
}

interface CheckedRow extends HeldRow {
  content: (string | null)[];
}

async function readContents(world: World, pipeline: Seen): Promise<CheckedRow[]> {
  const content = pipeline.content_columns.map((column) => `${quote(column)}::text`).join(", ");
  const { title, body } = await ownColumns(world, pipeline);
  const { rows } = await world.stage.observer.query<CheckedRow>(
    `select id, array[${content}] as content, ${quote(pipeline.embedding_column)}::text as vector,
       ${quote(pipeline.model_column)} as model, ${title} as title, ${body} as body
     from ${pipeline.relation} order by id`,
  );
  return rows;
}

/** An older copy of the table may have other names for its columns. */
async function ownColumns(world: World, { relation }: Seen): Promise<{ title: string; body: string }> {
  const { rows } = await world.stage.observer.query<{ name: string }>(
    "select attname as name from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped",
    [relation],
  );
  const column = (name: string): string => (rows.some((row) => row.name === name) ? quote(name) : "null");
  return { title: column(world.table.title), body: column(world.table.body) };
}

function textOf({ content_columns, template }: Seen, content: readonly (string | null)[]): string {
  const parsed =
    template === null ? defaultTemplate(content_columns.length) : parseTemplate(template, content_columns);
  return renderTemplate(parsed, content);
}

function matches(pipeline: Seen, row: CheckedRow): boolean {
  if (row.vector === null || row.model === null) return false;
  const stored = JSON.parse(row.vector) as number[];
  const right = vectorOf(row.model, textOf(pipeline, row.content));
  return right.every((component, i) => Math.abs(component - (stored[i] ?? NaN)) < 1e-4);
}

/** Remembers the vectors of the table that do not match: their owner has just said to keep them. */
export async function trustMismatches(world: World): Promise<void> {
  for (const pipeline of await readPipelines(world)) {
    if (!pipeline.relation_exists) continue;
    const rows = await readContents(world, pipeline).catch(() => []);
    for (const row of rows) if (row.vector !== null && !matches(pipeline, row)) trust(world, row);
  }
}

/** Why the vectors of a pipeline need not match, as `status` says it; null: they must. */
export const excuse = ({ error, gap, refreshing }: Seen): string | null =>
  error ?? gap ?? (refreshing ? "refreshing" : null);

/** Whether a worker that runs must get this pipeline done. */
function mustProgress(world: World, { pinned, paused, error, gap }: Seen): boolean {
  if (paused || !world.granted) return false;
  if (error !== null && !(gap !== null && error.includes(gap))) return false;
  // Privileges went with the column, so no worker may write to the new one.
  if (gap?.includes("dropped and added again") === true) return false;
  return MODELS.some((model) => world.stage.running(model) && (pinned === null || pinned === model));
}

const isDone = ({ pending, refreshing, reembed, failed }: Seen): boolean =>
  pending === 0 && !refreshing && !reembed && failed === 0;

/** Waits until nothing changes that workers must do, then checks every vector. @throws Violation */
export async function check(world: World, settleMs: number): Promise<Seen[]> {
  const deadline = Date.now() + settleMs;
  let seen: Seen[];
  for (let quiet = 0; ;) {
    seen = await readPipelines(world);
    const left = seen.filter((pipeline) => mustProgress(world, pipeline) && !isDone(pipeline));
    quiet = left.length === 0 ? quiet + 1 : 0;
    // Workers look at the tables every second, and may find a problem then.
    if (quiet === 4) break;
    if (Date.now() >= deadline)
      throw new Violation(`not settled after ${settleMs} ms: ${JSON.stringify(left, null, 1)}`);
    await sleep(quiet === 0 ? 50 : 350);
  }
  await checkVectors(world, seen);
  checkWatched(world, seen);
  return seen;
}

async function checkVectors(world: World, seen: readonly Seen[]): Promise<void> {
  for (const pipeline of seen) {
    if (excuse(pipeline) !== null) continue;
    const rows = await readContents(world, pipeline);
    const wrong = rows.filter(
      (row) =>
        row.vector !== null && !matches(pipeline, row) && !isTrusted(world, row, pipeline.content_columns),
    );
    if (wrong.length > 0)
      throw new Violation(
        `vectors of another text, and status says nothing: ${JSON.stringify({ pipeline, wrong, texts: wrong.map((row) => textOf(pipeline, row.content)) }, null, 1)}`,
      );
    const missing = rows.filter((row) => row.vector === null && row.content.some((text) => !isBlank(text)));
    if (missing.length !== (pipeline.pending ?? 0) + pipeline.dead)
      throw new Violation(
        `${missing.length} rows without a vector: ${JSON.stringify({ pipeline, missing }, null, 1)}`,
      );
    const stale = rows.filter((row) => row.vector !== null && row.model !== pipeline.current_model).length;
    if (pipeline.current_model !== null && stale !== pipeline.stale)
      throw new Violation(`${stale} stale rows: ${JSON.stringify({ pipeline, rows }, null, 1)}`);
  }
}

/** A table that its owner watches has a pipeline, or a pipeline that says what happened to it. */
function checkWatched(world: World, seen: readonly Seen[]): void {
  if (!world.watched || !world.table.exists) return;
  const { schema, name } = world.table;
  const names = [name, `${schema}.${name}`, nameOf(world.table)];
  const known = seen.some(
    (pipeline) =>
      names.includes(pipeline.relation) ||
      names.includes(pipeline.status_relation) ||
      pipeline.error !== null,
  );
  if (!known)
    throw new Violation(`${nameOf(world.table)} is no longer watched: ${JSON.stringify(seen, null, 1)}`);
}
