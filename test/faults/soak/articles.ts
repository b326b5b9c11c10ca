import type pg from "pg";
import { hashVector } from "../../helpers/hash-vector.mjs";
import { blank, cosineOf, Violation, waitForNone } from "../checker.js";

/** The two models between which `articles` is switched. Their dimensions differ, as those of real models do. */
export const MODELS = { "soak-a": 16, "soak-b": 24 } as const;
export type Model = keyof typeof MODELS;

/** The vector that a worker of this model makes of a text. */
export const vectorOf = (model: Model, text: string): Float32Array =>
  hashVector(`${model}: ${text}`, MODELS[model]);

/**
 * A second watched table, which changes its model. Its audit names columns only in the trigger's body: a trigger that
 * depends on a column would keep the swap from dropping it. `written` counts the vectors of both tables.
 */
const schema = `
create sequence written;
alter table audit add column written bigint default nextval('written');
update embedd.pipelines set model = 'soak-a' where relation = 'notes'::regclass;
-- Its dimensions are those of neither model.
select embedd.unwatch('embedd.chunks');

create table articles (
  id bigint generated always as identity primary key,
  body text,
  version integer not null default 1,
  embedding vector(${MODELS["soak-a"]}),
  embedding_model text
);
create table article_audit (
  article bigint not null,
  version integer not null,
  body text,
  model text,
  embedding text not null,
  written bigint default nextval('written')
);
create index on article_audit (article, version);
create function audit_article() returns trigger language plpgsql security definer set search_path = public, pg_catalog as $$
begin
  insert into article_audit
  select new.id, new.version, new.body, after ->> model, after ->> vector
  from (select to_jsonb(old) as before, to_jsonb(new) as after) row,
    (values ('embedding', 'embedding_model'), ('embedding_next', 'embedding_model_next')) as columns (vector, model)
  where after ->> vector is not null
    and after ->> vector is distinct from before ->> vector;
  return null;
end $$;
create trigger audit after update on articles for each row execute function audit_article();
select embedd.watch('articles', '{body}', model => 'soak-a', index_method => 'hnsw');
`;

export async function createArticles(pool: pg.Pool): Promise<void> {
  await pool.query(schema);
}

/** Waits until every article with a text has a vector of this model. @throws Violation */
export async function settleArticles(pool: pg.Pool, model: Model): Promise<void> {
  await waitForNone(
    pool,
    "articles",
    `select format('article %s', id) as what from articles
     where not ${blank} and (embedding is null or embedding_model is distinct from '${model}')`,
  );
}

/**
 * Checks every article, and each vector that was written since the last check: it matches the text that its row had
 * then, and was written at most once for one version and model.
 * @throws Violation
 */
export async function checkArticles(pool: pg.Pool): Promise<void> {
  const wrong = await pool.query<{ id: string }>(
    `select id from articles where ${blank} and embedding is not null limit 10`,
  );
  if (wrong.rows.length > 0)
    throw new Violation(`blank articles have a vector: ${wrong.rows.map(({ id }) => id).join(", ")}`);
  const twice = await pool.query<{ what: string }>(
    `select format('%s, version %s, %s', article, version, model) as what from article_audit
     group by article, version, model having count(*) > 1 limit 10`,
  );
  if (twice.rows.length > 0)
    throw new Violation(
      `vectors written twice for one version of an article: ${twice.rows.map(({ what }) => what).join("; ")}`,
    );
  const { rows } = await pool.query<{ body: string; model: string | null; embedding: string }>(
    `select distinct body, embedding_model as model, embedding::text from articles where embedding is not null
     union
     select distinct body, model, embedding from article_audit`,
  );
  for (const { body, model, embedding } of rows) {
    if (model === null || !isModel(model)) throw new Violation(`an article has a vector of ${String(model)}`);
    const cosine = cosineOf(JSON.parse(embedding) as number[], vectorOf(model, body));
    if (!(cosine >= 1 - 1e-6))
      throw new Violation(`an article has the vector of another text or model (cosine ${cosine}): ${body}`);
  }
  // Current vectors stay in the audit, so that a second write of one of them is detected.
  await pool.query(
    `delete from article_audit a where not exists (
       select from articles r where r.id = a.article and r.version = a.version and r.embedding_model = a.model)`,
  );
}

const isModel = (name: string): name is Model => Object.hasOwn(MODELS, name);
