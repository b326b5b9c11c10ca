import pg from "pg";
import { expect, it, onTestFinished } from "vitest";
import { migrate } from "#embedd/admin/migrate.js";
import { spawnCli } from "../helpers/cli.js";
import { waitFor } from "../helpers/wait.js";
import { createCluster, createStandby } from "./cluster.js";
import { describeFaults } from "./use-stage.js";

describeFaults("on a standby", () => {
  it("commands that read work, and the others name the standby", async () => {
    const primary = await createCluster();
    onTestFinished(() => primary.destroy());
    const address = primary.url("postgres");
    await migrate(address);
    const client = new pg.Client(address);
    await client.connect();
    await client.query("insert into embedd.chunks (content) values ('one')");
    await client.end();
    const standby = await createStandby(primary);
    onTestFinished(() => standby.destroy());
    const embedd = (...args: string[]) =>
      spawnCli(args, { env: { DATABASE_URL: standby.url("postgres") } }).exited;
    await waitFor(async () => (await embedd("failures")).code === 0, {
      what: "the standby",
      timeoutMs: 60_000,
    });

    expect(await embedd("status")).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/pending {3}1/) as string,
    });
    const unknown = /^workers unknown: this server is a standby; ask the primary$/m;
    expect((await embedd("status")).stdout).toMatch(unknown);
    expect((await embedd("status")).stdout).toMatch(/in flight \?/);
    expect(JSON.parse((await embedd("status", "--json")).stdout)).toMatchObject({
      workers: null,
      frozenWorkers: null,
    });
    expect(await embedd("status", "--require-worker")).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(unknown) as string,
    });
    expect((await embedd("doctor")).stdout).not.toMatch(/no worker is connected/);
    expect(await embedd("estimate")).toMatchObject({ code: 0 });
    expect(await embedd("doctor")).toMatchObject({
      code: 3,
      stdout: expect.stringMatching(
        /^FAIL .*is a standby.*\n {6}try: export DATABASE_URL='postgres:\/\/postgres@PRIMARY:.*\n[^]*^ok .*chunks/m,
      ) as string,
    });
    for (const args of [
      ["run", "--once"],
      ["pause", "embedd.chunks"],
      ["unwatch", "embedd.chunks"],
      ["uninstall", "--drop-chunks"],
    ])
      expect(await embedd(...args)).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/is a standby, which takes no writes/) as string,
      });
  });
});
