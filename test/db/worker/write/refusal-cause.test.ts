import { describe, expect, it, onTestFinished } from "vitest";
import { useDatabase } from "../../../helpers/database.js";
import { hashProvider } from "../../../helpers/providers.js";
import { startTestWorker } from "../../../helpers/worker.js";

const db = useDatabase();

/** What refuses the UPDATE that writes a vector, and what embedd.failures says of it. */
const CAUSES: [cause: string, setup: string, code: string, named: string][] = [
  [
    "a trigger that raises with the text in its message",
    `create function app.guard() returns trigger language plpgsql as $$
       begin raise exception 'no: %', new.body; end $$;
     create trigger "The Guard" before update on app.docs for each row execute function app.guard()`,
    "P0001",
    'trigger "The Guard" (function app.guard())',
  ],
  [
    "a function that a trigger calls",
    `create function app.inner_check(body text) returns void language plpgsql as $$
       begin raise exception using errcode = '22000', message = body; end $$;
     create function app.outer_check() returns trigger language plpgsql as $$
       begin perform app.inner_check(new.body); return new; end $$;
     create trigger checked before update on app.docs for each row execute function app.outer_check()`,
    "22000",
    "function app.inner_check(text), trigger checked (function app.outer_check())",
  ],
  [
    "a check constraint",
    "alter table app.docs add constraint never_embedded check (embedding is null)",
    "23514",
    "constraint never_embedded, table app.docs",
  ],
  [
    "a column that a trigger empties",
    `alter table app.docs alter body set not null;
     create function app.empty_body() returns trigger language plpgsql as $$
       begin new.body := null; return new; end $$;
     create trigger aa_empty before update on app.docs for each row execute function app.empty_body()`,
    "23502",
    "column body, table app.docs",
  ],
  [
    "a domain",
    `create domain app.short as text constraint at_most_two check (length(value) < 3);
     create function app.to_short() returns trigger language plpgsql as $$
       declare s app.short; begin s := new.body; return new; end $$;
     create trigger shortened before update on app.docs for each row execute function app.to_short()`,
    "23514",
    "constraint at_most_two, type app.short, trigger shortened (function app.to_short())",
  ],
  [
    "another table that a trigger writes",
    `create table app.audit (id int primary key);
     insert into app.audit values (1);
     create function app.log_it() returns trigger language plpgsql as $$
       begin insert into app.audit values (new.id); return null; end $$;
     create trigger logged after update on app.docs for each row execute function app.log_it()`,
    "23505",
    "constraint audit_pkey, table app.audit, trigger logged (function app.log_it())",
  ],
];

describe("a row that the table refuses is charged with a failure that names", () => {
  it.each(CAUSES)("%s, and never the text", async (_, setup, code, named) => {
    await db.query(`create schema app;
      create table app.docs (id int primary key, body text, embedding vector(384), embedding_model text);
      select embedd.watch('app.docs', '{body}');
      ${setup};
      insert into app.docs values (1, 'a secret')`);
    onTestFinished(async () => {
      await db.query("select embedd.unwatch('app.docs'); drop schema app cascade");
    });
    const worker = await startTestWorker(db, hashProvider(), { maxAttempts: 1 });
    await worker.idle();
    await worker.stop();
    const { rows } = await db.query<{ code: string; error: string }>(
      "select code, error from embedd.failures",
    );
    expect(rows).toEqual([{ code, error: `the table refused the UPDATE: ${named}` }]);
    expect(rows[0]?.error).not.toContain("secret");
  });
});
