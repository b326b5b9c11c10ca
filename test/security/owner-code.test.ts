import { expect, it } from "vitest";
import { createWorker } from "#embedd/worker/worker.js";
import { describeServer, useDatabase } from "../helpers/database.js";
import type { Database } from "../helpers/database.js";
import { embedd, hostileTable, newDatabase, ranAs, vectors } from "../helpers/owner-code.js";
import type { Owner } from "../helpers/owner-code.js";
import { hashProvider } from "../helpers/providers.js";
import { waitFor } from "../helpers/wait.js";
import { connectWriter } from "../helpers/watched-table.js";
import { WITHOUT_TIMERS } from "../helpers/worker.js";

const db = useDatabase();

describeServer("code that an owner attaches to a table", () => {
  it("never runs with the rights of a superuser who uses embedd, unless that owner is trusted", async () => {
    const [database, app] = (await newDatabase(db, 1)) as [Database, Owner];
    const table = await hostileTable(database, app);
    const watch = ["watch", table, "--content", "body", "mood"];

    const blind = await embedd(database.url, ...watch);
    expect(blind.stderr).toMatch(
      /may have vectors; embedd does not look, because its owner \w+ could run code with the rights of superuser/,
    );
    expect((await embedd(database.url, ...watch, "--existing", "refresh")).code).toBe(0);
    for (const [code, ...args] of [
      [3, "run", "--once"],
      [3, "status"],
      [3, "doctor"],
      [3, "estimate"],
      [2, "search", "one", "--table", table],
      [3, "reembed", "--table", table],
      [0, "failures"],
      [0, "repair", table, "--existing", "refresh"],
      [2, "switch-model", table, "--model", "text-embedding-3-small", "--dimensions", "1536"],
    ] as [number, ...string[]][]) {
      const { code: actual, stdout, stderr } = await embedd(database.url, ...args);
      const said = `${args.join(" ")}: ${stdout}${stderr}`;
      expect(actual, said).toBe(code);
      if (code !== 0) expect(said).toContain(`embedd trust ${app.role}`);
    }
    await database.query(
      "update embedd.pipelines set served_model = 'old' where relation <> 'embedd.chunks'::regclass",
    );
    await expect(
      database.query(`select embedd.begin_switch('${table}', 'embedding', 'm', 384, null, false)`),
    ).rejects.toMatchObject({ constraint: "untrusted_owner" });
    const current = await database.query(`select model from embedd.model_of('${table}')`);
    expect(current.rows).toEqual([{ model: "old" }]);
    expect(await ranAs(database, app)).toEqual([]);

    expect((await embedd(database.url, "trust", app.role)).stdout).toBe(`${app.role} is trusted\n`);
    const run = await embedd(database.url, "run", "--once");
    expect(run.code, run.stderr).toBe(0);
    expect(await vectors(database, table)).toBe(2);
    expect(await ranAs(database, app)).not.toEqual([]);

    const begun = await database.query<{ shadow: number }>(
      `select embedd.begin_switch('${table}', 'embedding', 'm', 8, null, false) as shadow`,
    );
    expect((await embedd(database.url, "trust", app.role, "--revoke")).code).toBe(0);
    await database.query(`truncate ${app.role}.ran`);
    const { shadow } = begun.rows[0] ?? { shadow: 0 };
    await expect(database.query(`select * from embedd.count_behind(${shadow})`)).rejects.toMatchObject({
      constraint: "untrusted_owner",
    });
    expect(await ranAs(database, app)).toEqual([]);
    expect((await embedd(database.url, "run", "--once")).code).toBe(3);
    expect((await embedd(database.url, "unwatch", table)).code).toBe(0);
  });

  it("gets nothing of other owners from a worker that works for one owner alone", async () => {
    const [database, app, other, worker, otherWorker] = (await newDatabase(db, 4)) as [
      Database,
      Owner,
      Owner,
      Owner,
      Owner,
    ];
    await database.query(`
      create schema theirs authorization ${other.role};
      create table theirs.docs (id int primary key, body text, embedding vector(384), embedding_model text);
      alter table theirs.docs owner to ${other.role};
      insert into theirs.docs values (1, 'a secret'), (2, 'to fail')`);
    const attacks = [
      "select body from theirs.docs limit 1",
      "update theirs.docs set embedding_model = 'poisoned' returning embedding_model",
      "select encode(text_hash, 'hex') from embedd.vectors where owner <> (select relowner from pg_class where oid = 'docs'::regclass) limit 1",
      `insert into embedd.vectors (owner, text_hash, model, dimensions, embedding)
         select '${other.role}'::regrole, sha256('0 a secret'), 'all-MiniLM-L6-v2', 384, array_fill(1, '{384}')::vector returning 'poisoned'`,
      "update embedd.vectors set used_at = now() where owner = (select relowner from pg_class where oid = 'theirs.docs'::regclass) returning 'touched'",
      "select key from embedd.failures where pipeline_id = (select id from embedd.pipelines where relation_schema = 'theirs')",
      "delete from embedd.failures where pipeline_id = (select id from embedd.pipelines where relation_schema = 'theirs') returning key",
      "insert into embedd.leases (pipeline_id, worker, keys, expires_at) select id, 1, '{1}', now() + '1 h' from embedd.pipelines where relation_schema = 'theirs' returning 'leased'",
      "update embedd.locks set job = 1 where pipeline_id = (select id from embedd.pipelines where relation_schema = 'theirs') returning 'locked'",
      "update embedd.pipelines set former_models = '{x}', error = 'x' where relation_schema = 'theirs' returning error",
      "update embedd.usage set tokens = 1e15 where pipeline_id = (select id from embedd.pipelines where relation_schema = 'theirs') returning 'spent'",
      `insert into embedd.trusted_owners values ('${app.role}') returning 'trusted'`,
      `delete from embedd.worker_scopes returning 'unlimited'`,
      `select embedd.trust_owner('${app.role}')::text || 'trusted'`,
    ];
    const attack = attacks
      .map(
        (sql) =>
          `begin execute $q$${sql}$q$ into found; all_found := concat_ws('; ', all_found, found); exception when others then null; end;`,
      )
      .join("\n");
    await database.query(`
      create function public.all_attacks() returns text language plpgsql as $f$
      declare found text; all_found text;
      begin ${attack} return all_found; end $f$`);
    const table = await hostileTable(database, app, "select public.all_attacks()");
    for (const [name, content] of [
      [table, "{body}"],
      ["theirs.docs", "{body}"],
    ] as const)
      await database.query(`select embedd.watch('${name}', '${content}', existing => 'keep')`);
    const client = await connectWriter(app.url);
    await client.query(
      `set search_path = ${app.role}, public; create policy worker on ${table} to ${worker.role} using (true); drop policy everybody on ${table}`,
    );

    const granted = await embedd(database.url, "grant", worker.role, "--tables-of", app.role);
    expect(granted.stdout).toBe(`${worker.role} can now run the worker on tables of ${app.role}\n`);
    await embedd(database.url, "grant", otherWorker.role, "--tables-of", other.role);
    await database.query(`
      insert into embedd.failures (pipeline_id, key, content_hash, code, error, next_attempt_at)
      select id, '99', sha256('x'), 'x', 'x', now() + '1 h' from embedd.pipelines where relation_schema = 'theirs'`);
    const theirs = await embedd(otherWorker.url, "run", "--once");
    expect(await vectors(database, "theirs.docs"), theirs.stderr).toBe(2);

    const run = await embedd(worker.url, "run", "--once");
    expect(run.code, run.stderr).toBe(0);
    expect((await client.query("select from docs where embedding is not null")).rowCount).toBe(2);
    const notes = await ranAs(database, app);
    for (const way of [
      "before_update",
      "deferred",
      "index predicate",
      "generated column",
      "check constraint",
    ])
      expect(notes).toContain(`${way} as ${worker.role}: `);
    expect(notes.filter((note) => !String(note).endsWith(`as ${worker.role}: `))).toEqual([]);
    const { rows } = await database.query(
      `select embedding_model, (select count(*)::int from embedd.vectors where owner = $1::regrole) as cached,
         (select count(*)::int from embedd.failures where key = '99') as failures,
         (select error from embedd.pipelines where relation_schema = 'theirs') as error
       from theirs.docs where id = 1`,
      [other.role],
    );
    expect(rows).toEqual([{ embedding_model: "all-MiniLM-L6-v2", cached: 2, failures: 1, error: null }]);
    for (const command of ["doctor", "status"]) {
      const { code, stdout, stderr } = await embedd(worker.url, command);
      expect(code, stdout + stderr).toBe(0);
    }
    await database.query(`select embedd.revoke_worker(role) from unnest($1::text[]) as role`, [
      [worker.role, otherWorker.role],
    ]);
  });

  it("keeps a worker of all tables away from those of owners who would gain from each other", async () => {
    const [database, app, other, worker] = (await newDatabase(db, 3)) as [Database, Owner, Owner, Owner];
    const table = await hostileTable(database, app);
    await database.query(`
      select embedd.watch('${table}', '{body}', existing => 'keep');
      alter table ${table} disable row level security;
      select embedd.grant_worker('${worker.role}')`);
    const alone = await embedd(worker.url, "run", "--once");
    expect(alone.code, alone.stderr).toBe(0);
    expect(await vectors(database, table)).toBe(2);

    await database.query(`
      truncate ${app.role}.ran;
      create table theirs (id int primary key, body text, embedding vector(384), embedding_model text);
      alter table theirs owner to ${other.role};
      select embedd.watch('theirs', '{body}');
      insert into theirs values (1, 'one')`);
    const both = await embedd(worker.url, "run", "--once");
    expect(both.code).toBe(3);
    const reason = (owner: Owner, others: Owner): RegExp =>
      new RegExp(
        `its owner ${owner.role} could run code with the rights of role ${worker.role}, which also works on tables of ${others.role}`,
      );
    // Whoever comes second does not stop the first.
    expect(both.stderr).toMatch(reason(other, app));
    expect(both.stderr).not.toMatch(reason(app, other));
    const again = await embedd(database.url, "grant", worker.role);
    expect(again.stderr).toContain(`${worker.role} gets no rights on tables of ${other.role}`);
    expect(again.code).toBe(3);
    const rights = "select has_column_privilege($1, 'theirs', 'body', 'SELECT') as may";
    expect((await database.query(rights, [worker.role])).rows).toEqual([{ may: false }]);
    expect(await vectors(database, "theirs")).toBe(0);

    await database.query(`grant select, update on theirs to ${worker.role}`);
    const apart = await embedd(worker.url, "run", "--once");
    expect(apart.stderr).toMatch(reason(app, other));
    expect(apart.stderr).toMatch(reason(other, app));
    await database.query(`revoke select, update on theirs from ${worker.role}`);

    await database.query(`select embedd.trust_owner('${app.role}'), embedd.trust_owner('${other.role}')`);
    const trusted = await embedd(worker.url, "run", "--once");
    expect(trusted.code, trusted.stderr).toBe(0);
    expect(await vectors(database, "theirs")).toBe(1);
    await database.query(`select embedd.revoke_worker('${worker.role}')`);
  });

  it("gains nothing from a role that has more rights than a worker needs, in any way", async () => {
    const [database, app, worker, group] = (await newDatabase(db, 3)) as [Database, Owner, Owner, Owner];
    await database.query(`
      create table docs (id int primary key, body text, embedding vector(384), embedding_model text);
      alter table docs owner to ${app.role};
      select embedd.watch('docs', '{body}'), embedd.grant_worker('${group.role}');
      grant ${group.role} to ${worker.role}`);
    const client = await connectWriter(worker.url);
    const risk = async (): Promise<string | null> =>
      (await client.query<{ what: string | null }>("select what from embedd.code_risk('docs')")).rows[0]
        ?.what ?? null;
    const rights = `role ${worker.role}, which`;
    expect(await risk()).toBeNull();

    await database.query(`create table own (); alter table own owner to ${worker.role}`);
    expect(await risk()).toContain(`${rights} owns objects`);
    await database.query(`alter table own owner to ${group.role}`);
    expect(await risk()).toContain(`${rights} owns objects as a member of ${group.role}`);
    await database.query(`drop table own; alter role ${worker.role} createrole`);
    expect(await risk()).toContain(`${rights} may create roles`);
    await database.query(`alter role ${worker.role} nocreaterole; grant pg_read_all_data to ${group.role}`);
    expect(await risk()).toContain(`${rights} is a member of pg_read_all_data`);
    await database.query(`grant pg_read_all_data to ${app.role}`);
    expect(await risk()).toBeNull();
    await database.query(`revoke pg_read_all_data from ${group.role}; grant insert on embedd.chunks to public;
      insert into embedd.chunks (content) values ('used')`);
    expect(await risk()).toMatch(/also works on tables of/);
    await database.query("truncate embedd.chunks");
    expect(await risk()).toBeNull();
    await database.query(`select embedd.revoke_worker('${group.role}')`);
  });

  it("is that of a partition's owner too", async () => {
    const [database, app, partOwner, worker] = (await newDatabase(db, 3)) as [Database, Owner, Owner, Owner];
    await database.query(`
      create table docs (id int primary key, body text, embedding vector(384), embedding_model text) partition by range (id);
      create table docs_1 partition of docs for values from (0) to (100);
      alter table docs owner to ${app.role};
      select embedd.watch('docs', '{body}'), embedd.grant_worker('${worker.role}'), embedd.trust_owner('${app.role}')`);
    const risk = async () =>
      (await database.query("select what from embedd.code_risk('docs')")).rows[0] as unknown;
    expect(await risk()).toEqual({ what: null });
    await database.query(`alter table docs_1 owner to ${partOwner.role}`);
    expect(await risk()).toEqual({
      what: expect.stringMatching(
        `its owner ${partOwner.role} could run code with the rights of superuser`,
      ) as string,
    });
    await database.query(`select embedd.revoke_worker('${worker.role}')`);
  });

  it("meets the limits of a worker's role also in a role that only inherits them", async () => {
    const [database, app, worker, login] = (await newDatabase(db, 3)) as [Database, Owner, Owner, Owner];
    await database.query(`
      create table docs (id int primary key, body text, embedding vector(384), embedding_model text);
      alter table docs owner to ${app.role};
      create table theirs (like docs including all);
      select embedd.watch('docs', '{body}'), embedd.watch('theirs', '{body}');
      select embedd.grant_worker('${worker.role}', '${app.role}');
      grant ${worker.role} to ${login.role}`);
    const client = await connectWriter(login.url);
    const { rows } = await client.query(
      "update embedd.pipelines set error = null returning relation::regclass::text as relation",
    );
    expect(rows).toEqual([{ relation: "docs" }]);
    await expect(
      client.query(
        "insert into embedd.leases (pipeline_id, worker, keys, expires_at) select id, 1, '{1}', now() from embedd.pipelines",
      ),
    ).rejects.toMatchObject({ code: "42501" });
    await expect(client.query(`select embedd.grant_worker('${worker.role}')`)).rejects.toThrow();
    await expect(database.query(`select embedd.grant_worker('${worker.role}')`)).rejects.toMatchObject({
      constraint: "worker_scope",
    });
    // A table that is watched later.
    await database.query(`
      create table later (like docs including all);
      alter table later owner to ${app.role};
      create table not_mine (like docs including all);
      select embedd.watch('later', '{body}'), embedd.watch('not_mine', '{body}')`);
    const may = await client.query(
      "select has_column_privilege('later', 'embedding', 'UPDATE') as later, has_column_privilege('not_mine', 'body', 'SELECT') as other",
    );
    expect(may.rows).toEqual([{ later: true, other: false }]);
    const secured = async (): Promise<number> =>
      (
        await database.query(
          "select from pg_class where relnamespace = 'embedd'::regnamespace and relrowsecurity",
        )
      ).rowCount ?? 0;
    expect(await secured()).toBe(7);
    await database.query(`
      select embedd.revoke_worker('${worker.role}');
      select embedd.grant_worker('${worker.role}')`);
    expect(await secured()).toBe(7);
    // It costs some of the rate, so it is on only where an owner could gain by it.
    await database.query(`select embedd.trust_owner('${app.role}')`);
    expect(await secured()).toBe(0);
    await database.query(`select embedd.revoke_worker('${worker.role}')`);
  });

  it("does not run in place of a trusted table that was dropped", async () => {
    const [database, stranger] = (await newDatabase(db, 1)) as [Database, Owner];
    const create = `create table public.docs (id int primary key, body text, embedding vector(384), embedding_model text)`;
    await database.query(
      `${create}; select embedd.watch('public.docs', '{body}'); insert into docs values (1, 'one')`,
    );
    const worker = await createWorker({
      databaseUrl: database.url,
      provider: hashProvider(),
      reuse: false,
      ...WITHOUT_TIMERS,
    });
    try {
      await waitFor(async () => (await vectors(database, "docs")) === 1, { what: "the first vector" });
      await worker.idle();
      const { rows } = await database.query<{ id: number }>("select max(id) as id from embedd.pipelines");
      const pipeline = rows[0]?.id ?? 0;
      await database.query(`drop table docs; grant create on schema public to ${stranger.role}`);
      await hostileTable(database, stranger);
      const client = await connectWriter(stranger.url);
      await client.query(`
        ${create};
        create index on public.docs (id) where ${stranger.role}.always('index predicate');
        insert into public.docs values (1, 'two');
        truncate ${stranger.role}.ran;
        notify embedd, '${pipeline}'`);
      await waitFor(
        async () =>
          (
            await database.query(
              "select from embedd.pipelines where error like '%another table has replaced it%'",
            )
          ).rowCount === 1,
        { what: "the worker to see that the table was replaced" },
      );
      expect(await ranAs(database, stranger)).toEqual([]);
    } finally {
      await worker.stop();
    }
  });
});
