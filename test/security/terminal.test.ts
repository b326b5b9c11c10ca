import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { spawnWithApi, startScriptedApi } from "../helpers/api-cli.js";
import { apiError } from "../helpers/api-server.js";
import { spawnCli } from "../helpers/cli.js";
import { useDatabase } from "../helpers/database.js";

const db = useDatabase();

/** Sets the window's title, clears the screen, the 8-bit form of it, a line of its own, and text from right to left. */
const ESCAPES = "\u001b]0;title\u0007\u001b[2J\u009b2J\r\nok    all is well\u202egnorw";
/** What remains of a result that a terminal obeys. */
const obeyed = (text: string): string[] => text.match(/[^\P{Cc}\n\t]|[\u202a-\u202e\u2066-\u2069]/gu) ?? [];

it("no name, key, text or error of others reaches the terminal as a command to it", async () => {
  const docs = await db.createMigratedDatabase();
  const table = `"docs${ESCAPES.replaceAll('"', "")}"`;
  await docs.query(
    `create table ${table} (id text primary key, body text, embedding vector(384), embedding_model text)`,
  );
  await docs.query("select embedd.watch($1, '{body}')", [table]);
  await docs.query(`insert into ${table} (id, body) values ($1, $1), ('good', 'good ' || $1)`, [ESCAPES]);
  const server = await startScriptedApi({
    script: ({ texts }) =>
      texts.some((text) => text === ESCAPES)
        ? apiError(400, { code: "content_filter", message: ESCAPES })
        : undefined,
  });
  const outputs: string[] = [];
  for (const [args, env] of [
    [["run", "--once"], { EMBEDD_LOG_FORMAT: "pretty" }],
    [["run", "--once"], { EMBEDD_LOG_FORMAT: "json" }],
    [["status"], {}],
    [["failures"], {}],
    [["failures", "--json"], {}],
    [["search", "good"], {}],
    [["search", "good", "--json"], {}],
    [["estimate"], {}],
    [["doctor"], {}],
    [["reembed", ESCAPES], {}],
    [["watch", ESCAPES, "--content", ESCAPES], {}],
    [[ESCAPES], {}],
  ] as const) {
    const { stdout, stderr } = await spawnWithApi(docs, server, [...args], {
      ...env,
      EMBEDD_DIMENSIONS: "384",
    }).exited;
    expect({ args, obeyed: obeyed(stdout + stderr) }).toEqual({ args, obeyed: [] });
    if (args[0] !== ESCAPES && args[1] !== ESCAPES) expect(stdout).not.toMatch(/^ok {4}all is well/m);
    outputs.push(stdout);
  }
  const [, , , , failures = "", , found = ""] = outputs;
  expect(JSON.parse(failures)).toMatchObject([{ key: ESCAPES }]);
  expect(JSON.parse(found)).toMatchObject([{ key: "good", content: { body: `good ${ESCAPES}` } }]);
});

it("no name begins a line of its own", async () => {
  const docs = await db.createMigratedDatabase();
  const forged = "docs\nFORGED: all is well";
  const env = { DATABASE_URL: docs.url };
  for (const args of [
    ["watch", forged, "--content", "body"],
    ["unwatch", forged],
    ["pause", forged],
    ["repair", forged],
    ["reembed", forged],
    ["grant", forged],
    ["grant", forged, "--revoke"],
    ["search", "text", "--table", forged],
  ]) {
    const { stdout, stderr, code } = await spawnCli(args, { env }).exited;
    expect({ args, lines: (stdout + stderr).match(/^FORGED.*/gm) }).toEqual({ args, lines: null });
    expect(code).not.toBe(0);
  }
});

it("no message of the log begins a line of its own", async () => {
  const log = `
    import { createLogger } from ${JSON.stringify(import.meta.resolve("#embedd/logger.js"))};
    createLogger({ level: "info", format: process.argv[1] }).info({ role: "a\\nFORGED" }, "role a\\nFORGED is a superuser");`;
  for (const format of ["pretty", "json"]) {
    const node = promisify(execFile)(process.execPath, ["--input-type=module", "--eval", log, format]);
    const { stderr } = await node;
    expect(stderr).toContain("role a\\nFORGED is a superuser");
    expect(stderr).not.toMatch(/^\s*FORGED/m);
  }
});

it("names with control characters can be typed as a hint shows them", async () => {
  const docs = await db.createMigratedDatabase();
  await docs.query(
    `create table "docs\u001b[2J\nit's" (id int primary key, body text, embedding vector(384), embedding_model text);
     insert into "docs\u001b[2J\nit's" values (1, 'text')`,
  );
  await docs.query("select embedd.watch($1, '{body}')", [`"docs\u001b[2J\nit's"`]);
  await docs.query(`alter table "docs\u001b[2J\nit's" disable trigger all`);
  const env = { DATABASE_URL: docs.url };
  const { stdout } = await spawnCli(["doctor"], { env }).exited;
  const hint = /FAIL .*\n +try: embedd (repair .* --existing refresh)/.exec(stdout)?.[1] ?? "";
  expect(obeyed(hint)).toEqual([]);
  const words = await promisify(execFile)("bash", ["-c", `printf '%s\\0' ${hint}`]);
  expect(await spawnCli(words.stdout.split("\0").slice(0, -1), { env }).exited).toMatchObject({ code: 0 });
});
