import { describe, expect, it } from "vitest";
import { EmbeddError } from "#embedd/errors.js";
import { loadConfig } from "#embedd/config.js";
import { MIN_CONNECTIONS } from "#embedd/defaults.js";

describe("settings", () => {
  it("have defaults and are frozen", () => {
    const config = loadConfig({}, {});
    expect(config).toMatchObject({
      provider: "local",
      dataDir: ".embedd",
      leaseMs: 15_000,
      databaseUrl: undefined,
    });
    expect(Object.isFrozen(config)).toBe(true);
  });

  it("are refused all together, each by name", () => {
    const env = {
      DATABASE_URL: "mysql://x",
      EMBEDD_LEASE_MS: "soon",
      EMBEDD_PROVIDER: "magic",
      EMBEDD_THREDS: "2",
      EMBEDD_BATCH_MS: "-1",
    };
    const error = catchError(() => loadConfig({}, env));
    expect(error).toMatchObject({ kind: "configuration", code: "settings" });
    for (const name of Object.keys(env)) expect(error.message).toContain(`${name}:`);
  });

  it("say which values are valid, once", () => {
    const env = { EMBEDD_LEASE_MS: "0.5", EMBEDD_PROVIDER: "magic", EMBEDD_THREDS: "2" };
    expect(catchError(() => loadConfig({}, env)).message.split("\n  ")).toEqual([
      "invalid settings:",
      "EMBEDD_THREDS: unknown setting",
      "EMBEDD_PROVIDER: must be local, openai, github, azure, ollama or tei",
      "EMBEDD_LEASE_MS: must be a whole number from 1000 to 3600000",
    ]);
  });

  it.each([
    ["EMBEDD_LEASE_MS", "1000.5", "1e9", "999", "1000"],
    ["EMBEDD_THREADS", "1.5", "257", "0", "256"],
    ["EMBEDD_MAX_CONNECTIONS", "8.5", "1001", String(MIN_CONNECTIONS - 1), String(MIN_CONNECTIONS)],
    ["EMBEDD_MAX_USD_PER_DAY", "1,5", "1000000001", "-0.01", "0.5"],
    ["EMBEDD_HEADERS", '{"x": "a\\nb"}', '{"a b": "c"}', '{"x": 1}', '{"x": "a"}'],
    ["EMBEDD_REUSE", "yes", "true", "1", "off"],
  ])("have bounds: %s", (name, ...values) => {
    const valid = values.pop() ?? "";
    for (const value of values)
      expect(catchError(() => loadConfig({}, { [name]: value })).message).toContain(`${name}: must be`);
    loadConfig({}, { [name]: valid });
  });

  it("turn reuse off", () => {
    expect(loadConfig({}, {}).reuse).toBe(true);
    expect(loadConfig({}, { EMBEDD_REUSE: "off" }).reuse).toBe(false);
  });

  it("leave out the line break at the end of a key", () => {
    const config = loadConfig({}, { EMBEDD_PROVIDER: "openai", OPENAI_API_KEY: "a-key\n" });
    expect(config.apiKey?.reveal()).toBe("a-key");
  });

  it("prefer a flag to a variable, and ignore an empty variable", () => {
    expect(loadConfig({ EMBEDD_LOG_LEVEL: "error" }, { EMBEDD_LOG_LEVEL: "debug" }).logLevel).toBe("error");
    expect(loadConfig({}, { DATABASE_URL: "", EMBEDD_THREADS: "" })).toMatchObject({
      databaseUrl: undefined,
      threads: undefined,
    });
  });

  it("never repeat a password", () => {
    const error = catchError(() => loadConfig({}, { DATABASE_URL: "postgre://me:hunter2@host/db" }));
    expect(error.message).not.toContain("hunter2");
  });
});

describe("a server that .env alone names", () => {
  const OPENAI = { EMBEDD_PROVIDER: "openai", OPENAI_API_KEY: "a-key" };
  const OUTSIDE = "192.0.2.1";

  it.each([
    `http://${OUTSIDE}/v1`,
    `http://${OUTSIDE}/v1?host=localhost`,
    `http://${OUTSIDE}/v1?host=`,
    `http://localhost@${OUTSIDE}/v1`,
    `http://localhost.${OUTSIDE}.invalid/v1`,
  ])("gets no key: %s", (address) => {
    const error = catchError(() => loadConfig({}, OPENAI, { EMBEDD_BASE_URL: address }));
    expect(error).toMatchObject({ code: "env_file" });
    expect(error.message).toContain(OUTSIDE);
  });

  it.each([
    `postgres://u@${OUTSIDE}/d`,
    `postgres://u@localhost/d?host=${OUTSIDE}`,
    `postgres://u@localhost/d?host=localhost&host=${OUTSIDE}`,
    `postgres://u@localhost/d?host=&host=${OUTSIDE}`,
    // pg reads an address with a space in another way.
    `postgres://u@localhost/d?host=${OUTSIDE}&h%6fst=localhost& x=1`,
    `postgres://u@localhost/d?host=localhost&h%6fst=${OUTSIDE}& x=1&host=${OUTSIDE}`,
    `postgres://u@${OUTSIDE}/d?host=`,
  ])("gets no password: %s", (address) => {
    const error = catchError(() => loadConfig({}, { PGPASSWORD: "secret" }, { DATABASE_URL: address }));
    expect(error).toMatchObject({ code: "env_file" });
    expect(error.message).toContain(`${OUTSIDE}:5432`);
  });

  it.each([
    "postgres://u@localhost/d",
    "postgres://u@127.0.0.1:15432/d",
    "postgres://u@[::1]/d",
    "postgres:///d?host=/var/run/postgresql",
    `postgres://u@${OUTSIDE}/d?host=localhost`,
    `postgres://u@localhost/d?host=${OUTSIDE}&host=localhost`,
  ])("gets it on this machine: %s", (address) => {
    expect(loadConfig({}, { PGPASSWORD: "secret" }, { DATABASE_URL: address }).databaseUrl).toBeDefined();
  });

  it.each([
    [`http://${OUTSIDE}/v1`, `http://${OUTSIDE}/v1`],
    [`http://me:hunter2@${OUTSIDE}/v1?a=it's&b=$(x)`, `'http://${OUTSIDE}/v1?a=it%27s&b=$(x)'`],
  ])("is in the hint without user and password: %s", (address, word) => {
    const { hint } = catchError(() => loadConfig({}, OPENAI, { EMBEDD_BASE_URL: address }));
    expect(hint).toBe(`export EMBEDD_BASE_URL=${word}`);
  });

  it("is in the hint without the database's password", () => {
    const address = `postgres://u:@${OUTSIDE}/d?sslmode=require&password=`;
    const { hint } = catchError(() => loadConfig({}, { PGPASSWORD: "s" }, { DATABASE_URL: address }));
    expect(hint).toBe(`export DATABASE_URL='postgres://u@${OUTSIDE}/d?sslmode=require'`);
  });

  it.each([
    [{ EMBEDD_API_KEY: "from the environment" }, { EMBEDD_API_KEY_FILE: "/from/.env" }],
    [{ EMBEDD_API_KEY_FILE: "/from/the/environment" }, { EMBEDD_API_KEY: "from .env" }],
  ])("takes the key of the environment, however .env gives another: %j", (env, file) => {
    const { apiKey, apiKeyFile } = loadConfig({}, { EMBEDD_PROVIDER: "openai", ...env }, file);
    expect([apiKey?.reveal(), apiKeyFile].filter(Boolean)).toEqual(Object.values(env));
  });
});

function catchError(work: () => unknown): EmbeddError {
  try {
    work();
  } catch (error) {
    if (error instanceof EmbeddError) return error;
  }
  throw new Error("no EmbeddError");
}
