import { expect, it } from "vitest";
import type { PipelineInspection } from "#embedd/admin/inspect.sql.js";
import { checkPipeline } from "#embedd/cli/doctor-pipeline.js";

const healthy: PipelineInspection = {
  id: 7,
  relation: `"Some Docs"`,
  embedding: "embedding",
  content: ["title", "body"],
  template: null,
  modelColumn: "embedding_model",
  model: null,
  indexMethod: null,
  error: null,
  missingPrivileges: null,
  rowSecurity: false,
  tableProblem: null,
  gap: null,
  flaw: null,
  rolesWithoutSchema: null,
  schema: "public",
  pendingIndex: "ready",
  vectorIndex: null,
};

const COLUMN_GONE = "a column that it needs is gone: body; add it again, then: embedd repair public.docs";

const fixes = (change: Partial<PipelineInspection>, broken: string | null = null): (string | undefined)[] =>
  checkPipeline({ ...healthy, ...change }, "worker", broken, null).map((finding) => finding.try);

it("finds nothing wrong with a healthy pipeline", () => {
  expect(checkPipeline(healthy, "worker", null, null)).toMatchObject([{ state: "ok" }]);
});

it("repairs triggers and asks about vectors that may belong to earlier texts", () => {
  expect(fixes({ gap: "triggers are disabled: before_edit" })).toEqual([
    `embedd repair '"Some Docs"' --existing refresh  # or keep`,
  ]);
});

it("repairs an index of pending rows", () => {
  expect(fixes({ pendingIndex: "invalid" })).toEqual([`embedd repair '"Some Docs"'`]);
});

it("says only what happened to a table that is gone", () => {
  expect(
    fixes({ tableProblem: "its table is gone; embedd unwatch public.docs", pendingIndex: "missing" }, "gone"),
  ).toEqual(["embedd unwatch public.docs"]);
});

it("names an index that is invalid, and row-level security", () => {
  expect(fixes({ vectorIndex: "failed" })).toEqual([expect.stringContaining("embedd run --once")]);
  expect(fixes({ vectorIndex: "building" })).toEqual([undefined]);
  expect(fixes({ rowSecurity: true })).toEqual(["ALTER ROLE worker BYPASSRLS;"]);
});

it("watches again with the settings that the pipeline has", () => {
  const settings = { template: "{title}: {body}", modelColumn: "made by", model: "m", indexMethod: "hnsw" };
  expect(fixes(settings, COLUMN_GONE)).toEqual([
    `embedd watch '"Some Docs"' --content title body` +
      ` --model-column 'made by' --template '{title}: {body}' --model m --index hnsw`,
  ]);
});

it("names every role that may not use the schema", () => {
  expect(fixes({ rolesWithoutSchema: ["worker", "other worker"] }, "no schema")).toEqual([
    "embedd grant worker",
    "embedd grant 'other worker'",
  ]);
});

it("watches a broken pipeline again with the columns that are left", () => {
  expect(fixes({ content: ["title"] }, COLUMN_GONE)).toEqual([`embedd watch '"Some Docs"' --content title`]);
});

it("names the privileges that are missing, and grants them", () => {
  expect(fixes({ missingPrivileges: ["SELECT on body"], rowSecurity: true })).toEqual([
    "embedd grant worker",
    "ALTER ROLE worker BYPASSRLS;",
  ]);
});

it("passes on what to type for a table that no worker can serve", () => {
  const reason = "(id) is no longer a unique key of NOT NULL columns; embedd repair public.docs";
  expect(checkPipeline(healthy, "worker", reason, null)).toEqual([
    {
      state: "FAIL",
      what: `"Some Docs".embedding: (id) is no longer a unique key of NOT NULL columns`,
      try: "embedd repair public.docs",
    },
  ]);
});
