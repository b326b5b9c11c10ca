import { expect, it } from "vitest";
import type { ServerInspection } from "#embedd/admin/inspect.sql.js";
import { checkServer } from "#embedd/cli/doctor-server.js";
import { checkWorkers } from "#embedd/cli/doctor.js";

const healthy: ServerInspection = {
  version: "15.0",
  versionNumber: 150_000,
  pgvector: "0.7.0",
  migrated: true,
  missingPrivileges: [],
  role: "worker",
  clockAheadMs: 0,
};

const problems = (change: Partial<ServerInspection>): string[] =>
  checkServer({ ...healthy, ...change })
    .filter(({ state }) => state !== "ok")
    .map((finding) => `${finding.state} ${finding.what} | ${finding.try ?? ""}`);

it.each<[string, Partial<ServerInspection>, RegExp | null]>([
  ["the oldest versions that are supported", {}, null],
  ["a later major version of pgvector", { pgvector: "1.0.0" }, null],
  ["an older PostgreSQL", { version: "14.9", versionNumber: 140_009 }, /^FAIL .*14\.9 is older than 15 /],
  ["an older pgvector", { pgvector: "0.6.2" }, /^FAIL pgvector 0\.6\.2 .* \| ALTER EXTENSION vector UPDATE;/],
  ["no pgvector", { pgvector: null }, /^FAIL the extension vector .* \| embedd migrate/],
  ["no schema", { migrated: false }, /^FAIL .*no embedd schema \| embedd migrate/],
  [
    "missing privileges",
    { missingPrivileges: ["a", "b", "c"] },
    /^FAIL role worker lacks a and 2 more privileges/,
  ],
  ["a clock that is fast", { clockAheadMs: 5_000 }, /^warn the server's clock is 5 s off/],
  ["a clock that is slow", { clockAheadMs: -5_000 }, /^warn the server's clock is 5 s off/],
  ["a clock that is nearly right", { clockAheadMs: -4_999 }, null],
])("doctor about %s", (_, change, problem) => {
  expect(problems(change)).toEqual(problem === null ? [] : [expect.stringMatching(problem)]);
});

it("doctor counts workers that are connected, frozen and deaf", () => {
  const states = (live: number, frozen: number, deaf: number) =>
    checkWorkers({ live, frozen, deaf }).map(({ state, what }) => `${state} ${what.slice(0, 15)}`);
  expect(states(2, 0, 0)).toEqual(["ok workers connect"]);
  expect(states(0, 0, 0)).toEqual(["warn no worker is co"]);
  expect(states(1, 1, 1)).toEqual(["ok workers connect", "warn workers connect", "warn workers that no"]);
  expect(checkWorkers(null)).toEqual([]);
});
