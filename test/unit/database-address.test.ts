import { describe, expect, it } from "vitest";
import { loadConfig } from "#embedd/config.js";
import { addressAt, targetOf } from "#embedd/database/connection-error.js";
import { directUrl } from "#embedd/database/inspect-connection.js";
import { addressProblem } from "#embedd/database-address.js";
import type { EmbeddError } from "#embedd/errors.js";

describe("an address of PostgreSQL", () => {
  it.each([
    "postgres://localhost",
    "postgresql://me@localhost:5432/app",
    "postgres://me:p@ss@host:5432/db",
    "postgres://me:p%2Fss@host/db?sslmode=require",
    "postgres://[::1]:5432/db",
    "postgres:///db?host=/var/run/postgresql",
    "postgres://localhost/db?user=me@corp",
    "postgres://host/db@x",
  ])("is accepted: %s", (address) => {
    expect(addressProblem(address)).toBeNull();
  });

  it.each([
    ["postgres//hunter2", /does not begin with exactly postgres:\/\//],
    ["postgres:/me:hunter2@host/db", /does not begin with exactly postgres:\/\//],
    ["localhost:5432", /does not begin with postgres:\/\//],
    ["me:hunter2@host:5432/db", /does not begin with postgres:\/\//],
    ["mysql://me:hunter2@host/db", /begins with mysql:\/\//],
    ["jdbc:postgresql://host/db?password=hunter2", /begins with jdbc:postgresql:\/\//],
    ["host=localhost password=hunter2", /list of keywords and values/],
    ["'postgres://me:hunter2@host/db'", /quotation mark/],
    [" postgres://me:hunter2@host/db", /white space/],
    ["postgres://me:hunter/2@host:5432/db", /must be escaped.*%2F for \//],
    ["postgres://me:hunter#2@host:5432/db", /must be escaped.*%23 for #/],
    ["postgres://me:hunter?2@host:5432/db", /must be escaped.*%3F for \?/],
    ["postgres://me:12/34@host:5432/db", /must be escaped/],
    ["postgres://me:12#34@host:5432/db", /must be escaped/],
    ["postgres://me:12?34@host:5432/db", /must be escaped/],
    ["postgres://me@host:port/db", /port is not a number/],
    ["postgres://me:hunter2", /port is not a number/],
    ["postgres://me:hunter2@host:99999/db", /port is not a number/],
    ["postgres://me:hunter2@a:1,b:2/db", /several hosts/],
    ["postgres://me:hunter2@my host/db", /white space/],
    ["postgres://me:hunter2@[::1/db", /cannot be read|port/],
    ["postgres://me:hunter%ff@host/db", /must be escaped/],
    ["postgres://me:hunter2@host/db?port=99999", /port is not a number/],
  ])("is refused in words that fit: %s", (address, what) => {
    const problem = addressProblem(address) ?? "";
    expect(problem).toMatch(what);
    expect(problem).toMatch(/it must look like postgres:\/\/user:password@host:5432\/database$/);
    expect(problem).not.toMatch(/hunter|12.34/);
  });

  it("that is the only mistake is answered with what to type", () => {
    let error: unknown;
    try {
      loadConfig({}, { DATABASE_URL: "localhost:5432" });
    } catch (thrown) {
      error = thrown;
    }
    expect((error as EmbeddError).hint).toBe("export DATABASE_URL=postgres://user@host:5432/database");
    expect((error as EmbeddError).message).toMatch(/DATABASE_URL: it does not begin with postgres:/);
  });

  it.each<[string, { user: string; host: string; port: string; database: string }]>([
    ["postgres://u@a:1/d?host=b&host=c&port=2", { user: "u", host: "c", port: "2", database: "d" }],
    ["postgres://u@[::1]:1/d", { user: "u", host: "::1", port: "1", database: "d" }],
    ["postgres:///d?host=/run/pg&user=me", { user: "me", host: "/run/pg", port: "5432", database: "d" }],
    // Files that pg would read are not looked at.
    ["postgres://u@a/d?sslrootcert=/dev/zero", { user: "u", host: "a", port: "5432", database: "d" }],
  ])("leads where messages and hints say: %s", (address, target) => {
    expect(targetOf(address)).toEqual(target);
    const { host } = target;
    const typed = addressAt(address, host).slice("export DATABASE_URL='".length, -1);
    expect(targetOf(typed)).toEqual(target);
  });

  it("is repeated without its password, wherever that is", () => {
    const url = directUrl("postgres://u:hunter2@h:6543/d?password=hunter2&port=6543&sslmode=require");
    expect(url).toBe("postgres://u@h:5432/d?sslmode=require");
  });
});
