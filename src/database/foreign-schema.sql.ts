import type { ClientBase } from "pg";
import { configurationError } from "../errors.js";

interface Foreign {
  object: string;
  owner: string;
}

/*
 * Whoever may create schemas in a database can make one called `embedd`, with functions that run as whoever calls them,
 * or `graphile_migrate`, with triggers. A superuser must not call them, and nobody must install embedd there.
 */

/**
 * Finds what another role owns in the schemas that embedd is about to write to.
 * @throws EmbeddError `configuration`/`foreign_schema`
 */
export async function refuseForeignObjects(client: ClientBase): Promise<void> {
  const { rows } = await client.query<Foreign>(`
with schemas as (
  select oid, nspname, nspowner from pg_namespace where nspname in ('embedd', 'graphile_migrate')
),
objects (name, owner) as (
  select 'schema ' || nspname, nspowner from schemas
  union all
  select format('table %I.%I', s.nspname, c.relname), c.relowner
  from schemas s
  join pg_class c on c.relnamespace = s.oid and c.relkind not in ('i', 'I')
  union all
  select 'function ' || f.oid::regprocedure, f.proowner
  from schemas s
  join pg_proc f on f.pronamespace = s.oid
)
select o.name as object, r.rolname as owner
from objects o
join pg_roles r on r.oid = o.owner
where not r.rolsuper and r.rolname <> current_user
order by o.name like 'schema %' desc, o.name
limit 1`);
  const found = rows[0];
  if (found === undefined) return;
  throw foreignSchema(
    `${found.object} belongs to role ${found.owner}, whose code would run with your rights`,
    `log in as ${found.owner} to migrate, if that role installed embedd; otherwise drop what it made`,
  );
}

/**
 * Refuses to let a superuser call the functions of a schema that another role owns.
 * @throws EmbeddError `configuration`/`foreign_schema`
 */
export async function refuseForeignSchema(client: ClientBase): Promise<void> {
  const { rows } = await client.query<{ owner: string }>(`
select o.rolname as owner
from pg_namespace n
join pg_roles o on o.oid = n.nspowner
join pg_roles me on me.rolname = current_user
where n.nspname = 'embedd' and me.rolsuper and not o.rolsuper`);
  const owner = rows[0]?.owner;
  if (owner === undefined) return;
  throw foreignSchema(
    `schema embedd belongs to role ${owner}, whose functions would run with your rights as a superuser`,
    `log in as ${owner}, if that role installed embedd; otherwise: DROP SCHEMA embedd CASCADE;`,
  );
}

const foreignSchema = (message: string, hint: string) => configurationError("foreign_schema", message, hint);
