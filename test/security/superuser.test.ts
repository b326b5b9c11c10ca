import { expect, it } from "vitest";
import { spawnCli } from "../helpers/cli.js";
import { describeServer, useDatabase } from "../helpers/database.js";
import { createRole } from "../helpers/watched-table.js";

const db = useDatabase();
const embedd = (url: string, ...args: string[]) => spawnCli(args, { env: { DATABASE_URL: url } }).exited;

const RISK =
  /role \w+ is a superuser: code that trusted owners attach to their tables, such as triggers, runs with its rights/;

describeServer("a worker that is a superuser", () => {
  it("is named as a risk by doctor and run, which a worker from embedd grant is not", async () => {
    const { role, url } = await createRole(db);
    await db.query(`select embedd.grant_worker('${role}')`);

    const doctor = await embedd(db.url, "doctor");
    expect(doctor.stdout).toMatch(/^warn {2}role \w+ is a superuser.*\n {6}try: embedd grant embedd_worker/m);
    expect(doctor.code).toBe(0);
    const run = await embedd(db.url, "run", "--once");
    expect(run.stderr).toMatch(RISK);
    expect(run.stderr).toContain("embedd grant embedd_worker");
    expect(run.code).toBe(0);

    const granted = await embedd(url, "doctor");
    expect(granted.stdout).toContain(`as role ${role}`);
    expect(granted.stdout).not.toMatch(RISK);
    const grantedRun = await embedd(url, "run", "--once");
    expect(grantedRun.code, grantedRun.stderr).toBe(0);
    expect(grantedRun.stderr).not.toMatch(RISK);
  });
});
