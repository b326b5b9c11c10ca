import { describe, expect, it } from "vitest";
import { functionsIn, namedObjects } from "#embedd/worker/write/refusal-cause.js";

describe("the functions in an error's context", () => {
  it.each([
    ["PL/pgSQL function guard() line 3 at RAISE", ["guard()"]],
    ["PL/pgSQL function public.guard(integer,text) line 3 at RAISE", ["public.guard(integer,text)"]],
    ['PL/pgSQL function "Mein Schutz"."Wächter"() line 3 at RAISE', ['"Mein Schutz"."Wächter"()']],
    ["PL/pgSQL-Funktion guard() Zeile 3 bei RAISE", ["guard()"]],
    ["fonction PL/pgSQL guard(), ligne 3, à RAISE", ["guard()"]],
    ['PL/Python function "guard"', []],
    [
      'PL/pgSQL function inner_check(text) line 2 at RAISE\nSQL statement "SELECT inner_check(new.body)"\nPL/pgSQL function guard() line 1 at PERFORM',
      ["inner_check(text)", "guard()"],
    ],
    ["SQL statement \"insert into audit values ('secret(text)')\"", []],
    [undefined, []],
  ])("%s", (where, names) => {
    expect(functionsIn({ where } as Parameters<typeof functionsIn>[0])).toEqual(names);
  });
});

it("objects come from the error's fields, each at most as long as a name", () => {
  expect(namedObjects({} as Parameters<typeof namedObjects>[0])).toEqual([]);
  expect(
    namedObjects({
      schema: "app",
      table: "docs",
      column: "title",
      dataType: "email",
      constraint: "x".repeat(1_000),
      where: undefined,
    }),
  ).toEqual([`constraint ${"x".repeat(63)}…`, "column title", "type app.email", "table app.docs"]);
});
