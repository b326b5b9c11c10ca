import { expect, it } from "vitest";
import { useDatabase } from "../../helpers/database.js";
import { spawnCli } from "../../helpers/cli.js";
import { hashProvider } from "../../helpers/providers.js";
import { expectVectors } from "../../helpers/watched-table.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();

const embedd = (...args: string[]) => spawnCli(args, { env: { DATABASE_URL: db.url } }).exited;

it("embedd watch asks what becomes of vectors, and changes a definition in place", async () => {
  await db.query(`
    create table docs (id int primary key, title text, body text, embedding vector(384), embedding_model text);
    insert into docs select i, 'title ' || i, 'text ' || i from generate_series(1, 20) i`);
  expect(await embedd("watch", "docs", "--content", "body")).toMatchObject({ code: 0 });
  await startTestWorker(db, hashProvider());
  const texts = (text: (i: number) => string) =>
    Object.fromEntries(Array.from({ length: 20 }, (_, i) => [String(i + 1), text(i + 1)]));
  await expectVectors(
    db,
    "docs",
    texts((i) => `text ${i}`),
  );

  const asked = await embedd("watch", "docs", "--content", "title,body", "--template", "{title}: {body}");
  expect(asked).toMatchObject({ code: 2 });
  const command = "embedd watch docs --content title body --template '\\{title\\}: \\{body\\}'";
  expect(asked.stderr).toMatch(
    new RegExp(`try: ${command} --existing refresh .*\\n.*${command} --existing keep`),
  );
  expect((await embedd("status")).stdout).not.toMatch(/refresh/);

  const changed = await embedd(
    ..."watch docs --content title,body --existing refresh --template".split(" "),
    "{title}: {body}",
  );
  expect(changed).toMatchObject({ code: 0 });
  expect(changed.stdout).toMatch(/from title, body by the template '.*'; before, from body$/m);
  await expectRefreshed();
  await expectVectors(
    db,
    "docs",
    texts((i) => `title ${i}: text ${i}`),
  );

  // Without --content, the columns stay.
  expect(await embedd("watch", "docs", "--template", "{body}", "--existing", "refresh")).toMatchObject({
    code: 0,
  });
  await expectRefreshed();
  await expectVectors(
    db,
    "docs",
    texts((i) => `text ${i}`),
  );

  expect(await embedd("unwatch", "docs")).toMatchObject({ code: 0 });
  expect(await embedd("watch", "docs", "--content", "body")).toMatchObject({ code: 2 });
  expect(await embedd("watch", "docs", "--content", "body", "--existing", "keep")).toMatchObject({ code: 0 });

  const all = await embedd("reembed", "--all", "--empty-cache", "--table", "docs");
  expect(all).toMatchObject({ code: 0 });
  expect(all.stdout).toMatch(/re-embedding all of 20 rows with hash[^]*20 rows re-embedded in/);
  expect(await embedd("reembed", "--empty-cache")).toMatchObject({ code: 2 });
});

/** Waits for the workers with the command that does so. */
async function expectRefreshed(): Promise<void> {
  for (;;) {
    const { stdout } = await embedd("status", "--json");
    const { pipelines } = JSON.parse(stdout) as { pipelines: { relation: string; refreshing: boolean }[] };
    if (pipelines.every(({ refreshing }) => !refreshing)) return;
  }
}
