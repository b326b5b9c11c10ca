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
  missingTriggers: null,
  disabledTriggers: null,
  pendingIndex: "ready",
};

const fixes = (change: Partial<PipelineInspection>, broken = false): (string | undefined)[] =>
  checkPipeline({ ...healthy, ...change }, "worker", broken, null).map((finding) => finding.try);

it("finds nothing wrong with a healthy pipeline", () => {
  expect(checkPipeline(healthy, "worker", false, null)).toMatchObject([{ state: "ok" }]);
});

it("enables exactly the disabled triggers of embedd", () => {
  expect(fixes({ disabledTriggers: ["before_update", "after_update"] })).toEqual([
    `ALTER TABLE "Some Docs" ENABLE ALWAYS TRIGGER zzz_embedd_7__before_update, ENABLE TRIGGER zzz_embedd_7__after_update;`,
  ]);
});

it("watches again with the settings that the pipeline has", () => {
  const settings = { template: "{title}: {body}", modelColumn: "made by", model: "m", indexMethod: "hnsw" };
  expect(fixes({ ...settings, pendingIndex: "invalid" })).toEqual([
    `embedd unwatch '"Some Docs"' --embedding embedding && embedd watch '"Some Docs"' --content title body` +
      ` --model-column 'made by' --template '{title}: {body}' --model m --index hnsw --existing refresh`,
  ]);
});

it("watches a broken pipeline again with the columns that are left", () => {
  expect(fixes({ content: ["title"] }, true)).toEqual([`embedd watch '"Some Docs"' --content title`]);
});

it("names the privileges that are missing, and grants them", () => {
  expect(fixes({ missingPrivileges: ["SELECT on body"], rowSecurity: true })).toEqual([
    "embedd grant worker",
    "ALTER ROLE worker BYPASSRLS;",
  ]);
});
