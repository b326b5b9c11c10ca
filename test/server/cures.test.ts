import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { ERROR_CODES } from "#embedd/error-codes.js";
import { describeServer, useDatabase } from "../helpers/database.js";
import { IN_A_SHELL, IN_PSQL, NOT_TYPED } from "./cures.cases.js";
import type { Cure } from "./cures.cases.js";

const db = useDatabase();
const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
let bin = "";
let owner = "";

interface Ended {
  code: number | null;
  output: string;
}

/** Types a line into `sh`, where `embedd` is the built command. */
function shell(line: string, env: Record<string, string> = {}): Promise<Ended> {
  const app = new URL(db.url);
  app.username = renamed("embedd_cure_app");
  return run("sh", ["-c", line], {
    DATABASE_URL: db.url,
    CURE_URL: db.url,
    APP_URL: app.toString(),
    ...env,
    PATH: `${bin}:${process.env["PATH"] ?? ""}`,
  });
}

const psql = (sql: string): Promise<Ended> =>
  run("psql", ["-X", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-d", db.url, "-c", sql], {});

function run(file: string, args: readonly string[], env: Record<string, string>): Promise<Ended> {
  const child = spawn(file, args, { env: { ...process.env, NO_COLOR: "1", ...env } });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stdin.end();
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      resolve({ code, output });
    });
  });
}

/** Roles belong to the whole server, which other runs use as well. */
const ours = `embedd_cure_${randomBytes(4).toString("hex")}`;
const renamed = (text: string): string => text.replaceAll("embedd_cure", ours);

function withOwnRoles(cure: Cure): Cure {
  const texts = Object.entries(cure).map(([key, value]: [string, unknown]) => [
    key,
    typeof value === "string" ? renamed(value) : value,
  ]);
  return { ...(Object.fromEntries(texts) as Cure), message: new RegExp(renamed(cure.message.source)) };
}

const byMessage = (cures: readonly Cure[]): [string, Cure][] =>
  cures.map((cure) => [`${cure.code}: ${cure.refused.slice(0, 60)}`, withOwnRoles(cure)]);

describeServer("the cure that a hint names, typed into", () => {
  beforeAll(async () => {
    bin = await mkdtemp(join(tmpdir(), "embedd-cures-"));
    await writeFile(join(bin, "embedd"), `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`);
    await chmod(join(bin, "embedd"), 0o755);
    owner = (await db.query<{ owner: string }>("select embedd.schema_owner() as owner")).rows[0]?.owner ?? "";
  });
  afterAll(async () => {
    await rm(bin, { recursive: true, force: true });
    const roles = ["worker", "shell", "app", "owner", "scope"].map((name) => renamed(`embedd_cure_${name}`));
    for (const role of roles) {
      const { rowCount } = await db.query("select from pg_roles where rolname = $1", [role]);
      if (rowCount === 1) await db.query(`drop owned by ${role}; drop role ${role}`);
    }
  });

  it.each(byMessage(IN_PSQL))("psql: %s", async (_, cure) => {
    if (cure.cause !== undefined) await db.query(cure.cause);
    const refused = await psql(cure.refused);
    expect(refused.code, refused.output).not.toBe(0);
    expect(refused.output).toMatch(cure.message);
    expect(refused.output).toContain(`CONSTRAINT NAME:  ${cure.code}\n`);
    const hint = /^HINT: {2}([^]*?)\n(?:CONTEXT|COLUMN NAME|CONSTRAINT NAME)/m.exec(refused.output)?.[1];
    expect(hint).toBe(cure.hint);
    for (const sql of [cure.typed ?? cure.hint.split("\n")[0] ?? "", cure.works ?? cure.refused]) {
      const { code, output } = await psql(sql);
      expect(code, `${sql}\n${output}`).toBe(0);
    }
  });

  it.each(byMessage(IN_A_SHELL))("a shell: %s", async (_, cure) => {
    if (cure.cause !== undefined) await db.query(cure.cause);
    const refused = await shell(cure.refused, cure.env);
    expect(refused.code, refused.output).toBe(2);
    expect(refused.output).toMatch(cure.message);
    const hint = /^ {2}try: ([^]*)\n$/m.exec(refused.output)?.[1]?.replaceAll("\n  or:  ", "\n");
    expect(hint).toBe(cure.hint.replaceAll("OWNER", owner));
    for (const line of [cure.typed ?? hint?.split("\n")[0] ?? "", cure.works ?? cure.refused]) {
      const { code, output } = await shell(line, cure.env);
      expect(code, `${line}\n${output}`).toBe(0);
    }
  });
});

it("every code has a cure that a test types, or a reason why none does", () => {
  const typed = new Set([...IN_PSQL, ...IN_A_SHELL].map(({ code }) => code));
  const codes = Object.keys(ERROR_CODES);
  const named = Object.values(NOT_TYPED).flatMap((reason) => reason.match(/test\/[\w/.-]+\.ts/g) ?? []);
  expect(named.filter((path) => !existsSync(new URL(`../../${path}`, import.meta.url)))).toEqual([]);
  expect(codes.filter((code) => !typed.has(code) && !(code in NOT_TYPED))).toEqual([]);
  expect(Object.keys(NOT_TYPED).filter((code) => typed.has(code) || !codes.includes(code))).toEqual([]);
});
