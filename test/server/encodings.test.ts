import pg from "pg";
import { expect, it } from "vitest";
import { migrate } from "#embedd/admin/migrate.js";
import { describeServer, useDatabase } from "../helpers/database.js";
import { spawnCli } from "../helpers/cli.js";

const db = useDatabase();

const IDEOGRAPHIC_SPACE = "\u3000";
const NO_BREAK_SPACE = "\u00a0";

describeServer("a database of the server encoding", () => {
  it.each<{ encoding: string; texts: string[]; blank: string[] }>([
    { encoding: "UTF8", texts: ["hello", "café", "日本語"], blank: [NO_BREAK_SPACE, IDEOGRAPHIC_SPACE] },
    { encoding: "LATIN1", texts: ["hello", "café"], blank: [" ", NO_BREAK_SPACE] },
    { encoding: "EUC_JP", texts: ["hello", "日本語"], blank: [" ", IDEOGRAPHIC_SPACE] },
    { encoding: "SQL_ASCII", texts: ["hello", "café", "日本語"], blank: [" "] },
  ])("$encoding takes the schema, and its texts get vectors", async ({ encoding, texts, blank }) => {
    const { url } = await db.createDatabase(encoding);
    await migrate(url);
    const client = new pg.Client(url);
    await client.connect();
    try {
      await client.query("set client_encoding = 'UTF8'");
      await client.query("create table docs (id int primary key, body text)");
      const env = { DATABASE_URL: url };
      expect(
        await spawnCli(["watch", "docs", "--content", "body", "--create-columns"], { env }).exited,
      ).toMatchObject({ code: 0 });
      const rows = [...texts, ...blank];
      await client.query(
        "insert into docs (id, body) select ord, body from unnest($1::text[]) with ordinality u (body, ord)",
        [rows],
      );
      expect(await spawnCli(["run", "--once"], { env }).exited).toMatchObject({ code: 0 });
      const { rows: done } = await client.query<{ body: string }>(
        "select body from docs where embedding is not null order by id",
      );
      expect(done.map(({ body }) => body)).toEqual(texts);
      const found = await spawnCli(
        ["search", texts.at(-1) ?? "", "--table", "docs", "--limit", "1", "--json"],
        { env },
      ).exited;
      expect(JSON.parse(found.stdout)).toMatchObject([{ content: { body: texts.at(-1) }, truncated: [] }]);
      expect(
        (await client.query("select pending, blank from embedd.status where relation = 'docs'")).rows,
      ).toEqual([{ pending: "0", blank: String(blank.length) }]);
    } finally {
      await client.end();
    }
  });
});
