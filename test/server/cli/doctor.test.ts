import { expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { BUILT_IN_MODEL, spawnCli } from "../../helpers/cli.js";
import { startPgbouncer } from "../../helpers/programs.js";

const db = useDatabase();
const doctor = (url: string, env: Record<string, string> = {}) =>
  spawnCli(["doctor"], { env: { DATABASE_URL: url, ...env } }).exited;

describeServer("embedd doctor", () => {
  it("reports no problem in a healthy database", async () => {
    const { code, stdout } = await doctor(db.url, BUILT_IN_MODEL);
    expect(stdout).not.toContain("FAIL");
    expect(stdout).toMatch(/ok .*checksum/);
    expect(stdout).toMatch(/^ok {4}inference threads: \d+ \(.*(processors|quota)/m);
    expect(stdout).toMatch(/ok .*embedd\.chunks\.embedding/);
    expect(code).toBe(0);
  });

  it.each([
    ["a disabled trigger", "alter table docs disable trigger zzz_embedd_ID__after_insert", /after_insert/],
    ["a missing index", "drop index embedd_ID_pending", /index of pending rows is missing/],
    [
      "a missing column",
      "alter table docs drop body cascade",
      /a column that it needs is gone|table or a column is gone/,
    ],
    [
      "dimensions that the model does not make",
      "alter table docs add other vector(3), add other_model text; select embedd.unwatch('docs'), embedd.watch('docs', '{body}', 'other')",
      /makes 384 dimensions/,
    ],
  ])("reports %s, and what to type", async (_, damage, complaint) => {
    const { url, query } = await db.createMigratedDatabase();
    await query(
      "create table docs (id int primary key, body text, embedding vector(384), embedding_model text)",
    );
    const { rows } = await query<{ id: number }>("select embedd.watch('docs', '{body}') as id");
    await query(damage.replace("ID", String(rows[0]?.id)));
    const { code, stdout } = await doctor(url);
    expect(stdout).toMatch(complaint);
    expect(stdout).toMatch(/FAIL .*docs\.(embedding|other).*\n {6}try: /);
    expect(code).toBe(3);
  });

  it("reports a missing schema and missing privileges", async () => {
    const { url } = await db.createDatabase();
    expect(await doctor(url)).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(/no embedd schema\n.*embedd migrate/) as string,
    });
    const role = `nobody_${Math.random().toString(36).slice(2, 10)}`;
    await db.query(`create role ${role} login`);
    onTestFinished(async () => {
      await db.query(`drop role ${role}`);
    });
    const asRole = new URL(db.url);
    asRole.username = role;
    expect(await doctor(asRole.toString())).toMatchObject({
      code: 3,
      stdout: expect.stringContaining(`try: embedd grant ${role}`) as string,
    });
  });

  it("detects a pooler by sending itself a notification", async () => {
    const url = await startPgbouncer(db.url);
    const { code, stdout } = await doctor(url);
    expect(stdout).toMatch(/FAIL .*pooler/);
    expect(code).toBe(3);
  });
});
