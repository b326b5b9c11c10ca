import pg from "pg";
import { migrate } from "#embedd/admin/migrate.js";
import type { Cluster } from "./cluster.js";

/** The workers' role, with only the privileges that `embedd grant` gives. */
export const WORKER_ROLE = "faults_worker";

/** Every write of a vector takes it shared; held exclusively, it blocks completions inside their statement. */
export const COMPLETION_LOCK = 4711;
/** The same for claims. */
export const CLAIM_LOCK = 4712;

/**
 * A watched table, an audit of its vectors, and triggers that raise on demand:
 * - `audit`: one row per write of a vector, with the text and version of its row;
 * - `injected`: SQLSTATEs that tables raise for a share of the workers' statements;
 * - a user's trigger refuses texts that begin with `poison`.
 */
const schema = (dimensions: number): string => `
create table notes (
  id bigint generated always as identity primary key,
  body text,
  version integer not null default 1,
  embedding vector(${dimensions}),
  embedding_model text
);
create table audit (note bigint not null, version integer not null, body text, embedding text not null, pid integer not null);
create index on audit (note, version);
create table injected (relation text not null, code text not null, share float8 not null);

create function audit() returns trigger language plpgsql security definer set search_path = public, pg_catalog as $$
begin
  insert into audit values (new.id, new.version, new.body, new.embedding::text, pg_backend_pid());
  perform pg_advisory_xact_lock_shared(${COMPLETION_LOCK});
  return null;
end $$;
create trigger audit after update of embedding on notes for each row when (new.embedding is not null)
  execute function audit();

create function inject() returns trigger language plpgsql security definer set search_path = public, pg_catalog as $$
declare
  raised text;
begin
  if current_setting('application_name') like 'embedd%' then
    select code into raised from injected i where i.relation = tg_table_name and random() < i.share limit 1;
    if found then
      raise exception using errcode = raised, message = 'injected';
    end if;
  end if;
  return coalesce(new, old);
end $$;
create trigger aaa_inject before update on notes for each row execute function inject();
create trigger aaa_inject before insert or update or delete on embedd.leases for each statement execute function inject();
create trigger aaa_inject before insert or update or delete on embedd.failures for each statement execute function inject();

create function hold_claim() returns trigger language plpgsql security definer set search_path = public, pg_catalog as $$
begin
  perform pg_advisory_xact_lock_shared(${CLAIM_LOCK});
  return null;
end $$;
create trigger hold_claim after insert on embedd.leases for each statement execute function hold_claim();

create function refuse_poison() returns trigger language plpgsql as $$
begin
  if old.embedding is null and new.embedding is not null and new.body like 'poison%' then
    raise exception 'poison';
  end if;
  return new;
end $$;
create trigger aab_refuse before update on notes for each row execute function refuse_poison();

create role ${WORKER_ROLE} login;
select embedd.grant_worker('${WORKER_ROLE}');
select embedd.watch('notes', '{body}');
`;

export async function createSchema(cluster: Cluster, dimensions: number): Promise<void> {
  const url = cluster.url("postgres");
  await migrate(url);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(schema(dimensions));
  } finally {
    await client.end();
  }
}
