import pg from "pg";
import { afterEach, expect, it, vi } from "vitest";
import { hasProblem } from "#embedd/admin/status.sql.js";
import type { PipelineStatus } from "#embedd/admin/status.sql.js";
import { EXIT, reportError } from "#embedd/cli/exit.js";
import { explainConnectionError } from "#embedd/database/connection-error.js";
import { EmbeddError, configurationError } from "#embedd/errors.js";

afterEach(() => {
  vi.restoreAllMocks();
});

const ofServer = (code: string): Error => Object.assign(new pg.DatabaseError("no", 2, "error"), { code });
const ofSystem = (code: string): Error => Object.assign(new Error("no"), { code });

it.each<[string, unknown, keyof typeof EXIT]>([
  ["a wrong password", ofServer("28P01"), "unreachable"],
  ["a role that may not connect", ofServer("28000"), "unreachable"],
  ["a database that does not exist", ofServer("3D000"), "unreachable"],
  ["a server that shuts down", ofServer("57P01"), "unreachable"],
  ["a server that starts up", ofServer("57P03"), "unreachable"],
  ["a server without a free connection", ofServer("53300"), "unreachable"],
  ["a refused connection", ofSystem("ECONNREFUSED"), "unreachable"],
  ["a name with several addresses", new AggregateError([ofSystem("ECONNREFUSED")], ""), "unreachable"],
  ["a connection that takes too long", new Error("timeout expired"), "unreachable"],
  ["a certificate that has expired", ofSystem("CERT_HAS_EXPIRED"), "unreachable"],
  ["an error of a statement", ofServer("22012"), "fault"],
  ["invalid settings", configurationError("settings", "invalid settings", "embedd --help"), "usage"],
  ["a failed provider", new EmbeddError("503", { kind: "provider", code: "unavailable" }), "fault"],
])("the exit code after %s", (_, error, name) => {
  vi.spyOn(process.stderr, "write").mockReturnValue(true);
  expect(reportError(explainConnectionError(error, "postgres://me@host/db"))).toBe(EXIT[name]);
});

it("a pipeline is a problem if rows failed, if it is not served, or if its index failed", () => {
  const fine = { error: null, failed: 0, dead: 0, vectorIndex: null, mayCount: true, codeRisk: null };
  const problem = (change: Partial<PipelineStatus>) => hasProblem({ ...fine, ...change } as PipelineStatus);
  expect(
    [{}, { vectorIndex: "building" as const }, { mayCount: false, error: "denied" }].map(problem),
  ).toEqual([false, false, false]);
  const bad = [
    { failed: 1 },
    { dead: 1 },
    { error: "gone" },
    { vectorIndex: "failed" as const },
    { mayCount: false, codeRisk: "its owner", error: "gone" },
  ];
  expect(bad.map(problem)).toEqual([true, true, true, true, true]);
});
