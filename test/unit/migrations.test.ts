import { describe, expect, it } from "vitest";
import { committedMigrations } from "#embedd/admin/migrate.js";
import { GATE_CLASS, PRESENCE_CLASS } from "#embedd/database/advisory-locks.js";

const migrations = await committedMigrations();
const lines = migrations.flatMap(({ name, body }) =>
  body.split("\n").map((line, i) => ({ at: `${name}: ${i + 1}`, line })),
);
const sql = migrations.map(({ body }) => body).join("\n");

/** What the files create in the schema embedd: functions with the types of their arguments, tables, views and so on. */
function created(): string[] {
  const statement =
    /^create (?:unlogged )?(function|table|view|sequence|trigger|schema) ([\w.]+)\s*(?:\(([^;]*?)\)\s*returns|)/gm;
  return [...sql.matchAll(statement)].map(([, kind, name, args]) => `${kind} ${name} ${signature(args)}`);
}

/** Names, defaults and output arguments do not tell functions apart. */
function signature(args = ""): string {
  return args
    .split(",")
    .map((argument) => argument.trim().replace(/ default .*/, ""))
    .filter((argument) => !argument.startsWith("out "))
    .map((argument) => argument.split(/\s+/).slice(1).join(" "))
    .join(", ");
}

describe("the migrations", () => {
  it("are ASCII, so that a server of any encoding runs them", () => {
    expect(lines.filter(({ line }) => /[^\x00-\x7f]/.test(line))).toEqual([]);
  });

  it("have lines of at most 130 characters", () => {
    expect(lines.filter(({ line }) => line.length > 130)).toEqual([]);
  });

  it("define every object once", () => {
    const names = created();
    expect(names).toContain("function embedd.tg_wake__after_write ");
    expect(names.length).toBeGreaterThan(40);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });

  it("replace nothing", () => {
    expect(lines.filter(({ line }) => /create or replace/i.test(line))).toEqual([]);
    expect(lines.filter(({ line }) => /^(drop|alter table \S+ (add|drop) )/i.test(line))).toEqual([]);
  });

  it("put what is no command into a comment of the hint, so that a hint pastes as a whole", () => {
    const joined = /'[^']*\b(?:ALTER|GRANT|SELECT|CREATE|embedd [a-z])[^']*(?:; |, )(?:or|then|first|as)\b[^']*'/;
    const hints = lines.filter(({ line }) => joined.test(line) && !/ {2}(?:--|#) /.test(line));
    expect(hints).toEqual([]);
    expect("'ALTER TABLE %s DROP COLUMN %I; or RENAME it'").toMatch(joined);
  });

  it("know the advisory lock classes by the same numbers as the worker", () => {
    const classOf = (letters: string) => Buffer.from(letters).readInt32BE();
    expect([GATE_CLASS, PRESENCE_CLASS]).toEqual([classOf("embg"), classOf("embp")]);
    const inSql = [...sql.matchAll(/when '(\w+)' then (\d+) \/\* '(\w{4})' \*\//g)].map((match) =>
      match.slice(1),
    );
    expect(inSql).toEqual([
      ["gate", String(GATE_CLASS), "embg"],
      ["presence", String(PRESENCE_CLASS), "embp"],
      ["index", String(classOf("embi")), "embi"],
      ["switch", String(classOf("embx")), "embx"],
    ]);
    // Once in the function, and once in the trigger, which may not call it.
    expect(sql.match(/\b17016674\d\d\b/g)).toEqual(
      [GATE_CLASS, PRESENCE_CLASS, classOf("embi"), classOf("embx"), GATE_CLASS].map(String),
    );
    expect(sql).toContain(`pg_try_advisory_xact_lock_shared(${GATE_CLASS} /* 'embg' */`);
  });
});
