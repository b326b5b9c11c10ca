import { join } from "node:path";
import { writeFile } from "node:fs/promises";
import { it } from "vitest";
import { useWorker } from "../../helpers/file-worker.js";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { runProgram, startPgbouncer, temporaryFolder } from "../../helpers/programs.js";
import { connectWriter, expectVectors, watchTable } from "../../helpers/watched-table.js";

const db = useDatabase();
const psql = (args: string[], input?: string | Uint8Array) =>
  runProgram(
    "psql",
    ["-X", "-q", "-v", "ON_ERROR_STOP=1", db.url, ...args],
    input === undefined ? {} : { input },
  );

/** Texts with everything that the formats of COPY must escape. */
const texts = [
  "plain",
  'with "quotes", and, commas',
  "with a tab\tand a\nnew line",
  "back\\slash and \\N and \\.",
  "žluťoučký 機械学習 🚀",
];
const byId = Object.fromEntries(texts.map((text, i) => [String(i + 1), text]));

const formats: [string, () => string | Promise<Uint8Array>][] = [
  [
    "text",
    () =>
      texts
        .map((text, i) => {
          const escaped = text.replaceAll("\\", "\\\\").replaceAll("\t", "\\t").replaceAll("\n", "\\n");
          return `${i + 1}\t${escaped}\n`;
        })
        .join(""),
  ],
  ["csv", () => texts.map((text, i) => `${i + 1},"${text.replaceAll('"', '""')}"\n`).join("")],
  [
    "binary",
    () => {
      const rows = texts.map((text, i) => `(${i + 1}, '${text.replaceAll("'", "''")}')`).join(", ");
      return psql(["-c", `copy (values ${rows}) to stdout (format binary)`]);
    },
  ],
];

describeServer("a program that writes:", () => {
  useWorker(db);

  it.each(formats)("psql with COPY FROM STDIN in %s format", async (format, data) => {
    const relation = `copied_${format}`;
    await watchTable(db, { relation });
    await psql(["-c", `copy ${relation} (id, body) from stdin (format ${format})`], await data());
    await expectVectors(db, relation, byId);
  });

  it.each(formats)("psql with \\copy from a file in %s format", async (format, data) => {
    const relation = `backslash_${format}`;
    await watchTable(db, { relation });
    const file = join(await temporaryFolder(), "rows");
    await writeFile(file, await data());
    await psql(["-c", `\\copy ${relation} (id, body) from '${file}' with (format ${format})`]);
    await expectVectors(db, relation, byId);
  });

  it("through pgbouncer in transaction mode, with prepared statements", async () => {
    await watchTable(db, { relation: "pooled" });
    const pooled = await startPgbouncer(db.url);
    const [first, second] = [await connectWriter(pooled), await connectWriter(pooled)];
    // Parse, Bind, Execute without a name, in turns on the one server connection.
    for (let id = 1; id <= 4; id += 2) {
      for (const [client, key] of [
        [first, id],
        [second, id + 1],
      ] as const) {
        await client.query("insert into pooled (id, body) values ($1, $2)", [key, `unnamed ${key}`]);
      }
    }
    await expectVectors(db, "pooled", { 1: "unnamed 1", 2: "unnamed 2", 3: "unnamed 3", 4: "unnamed 4" });
    // With a name, a prepared statement of the protocol lives as long as its transaction has the connection.
    for (const [client, text] of [
      [first, "named, first"],
      [second, "named, second"],
    ] as const) {
      await client.query("begin");
      for (const key of [1, 2]) {
        await client.query({
          name: "edit",
          text: "update pooled set body = $2 where id = $1",
          values: [key, `${text} ${key}`],
        });
      }
      // All: pgbouncer 1.21 and newer gives the statements names of its own on the server.
      await client.query("deallocate all; commit");
    }
    await expectVectors(db, "pooled", {
      1: "named, second 1",
      2: "named, second 2",
      3: "unnamed 3",
      4: "unnamed 4",
    });
    await first.query(`begin; prepare add (int, text) as insert into pooled (id, body) values ($1, $2);
      execute add(5, 'with PREPARE'); deallocate add; commit`);
    await expectVectors(db, "pooled", {
      1: "named, second 1",
      2: "named, second 2",
      3: "unnamed 3",
      4: "unnamed 4",
      5: "with PREPARE",
    });
  });

  it("Python's psycopg, with execute, executemany, COPY and prepared statements", async () => {
    await watchTable(db, { relation: "from_python" });
    await runProgram(
      "/usr/bin/python3",
      [
        "-c",
        `
import os, psycopg
with psycopg.connect(os.environ["URL"]) as connection:
    with connection.cursor() as cursor:
        cursor.execute("insert into from_python (id, body) values (%s, %s)", (1, "execute 機械学習"))
        cursor.executemany("insert into from_python (id, body) values (%s, %s)", [(2, "many a"), (3, "many b")])
        with cursor.copy("copy from_python (id, body) from stdin") as copy:
            copy.write_row((4, "copied\\tby write_row"))
        with cursor.copy("copy from_python (id, body) from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((5, "copied in binary"))
        cursor.execute("insert into from_python (id, body) values (%s, %s)", (6, "to be edited"))
    connection.commit()
    connection.execute("update from_python set body = %s where id = %s", ("edited", 6), prepare=True)
`,
      ],
      { env: { URL: db.url } },
    );
    await expectVectors(db, "from_python", {
      1: "execute 機械学習",
      2: "many a",
      3: "many b",
      4: "copied\tby write_row",
      5: "copied in binary",
      6: "edited",
    });
  });
});
