import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it, onTestFinished } from "vitest";
import { describeServer, useDatabase } from "../../helpers/database.js";
import { hashProvider, hashVector, parseVector } from "../../helpers/providers.js";
import { waitFor } from "../../helpers/wait.js";
import { startTestWorker } from "../../helpers/worker.js";

const db = useDatabase();
const run = promisify(execFile);
const psql = (...args: string[]) => run("psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", db.url, ...args]);

async function expectVectors(source: string, texts: string[]): Promise<void> {
  const rows = await waitFor(
    async () => {
      const found = await db.query<{ content: string; embedding: string | null }>(
        "select content, embedding::text from embedd.chunks where source = $1 order by id",
        [source],
      );
      return found.rows.length === texts.length && found.rows.every((r) => r.embedding !== null)
        ? found.rows
        : undefined;
    },
    { what: source },
  );
  expect(rows.map((row) => row.content)).toEqual(texts);
  for (const row of rows) {
    expect(parseVector(row.embedding ?? "[]")[0]).toBeCloseTo(hashVector(row.content)[0] ?? NaN, 5);
  }
}

describeServer("psql", () => {
  it("inserts a row, which gets its vector", async () => {
    await startTestWorker(db, hashProvider());
    await psql("-c", "insert into embedd.chunks (source, content) values ('psql', 'typed by hand')");
    await expectVectors("psql", ["typed by hand"]);
  });

  it.each(["copy", "\\copy"])("loads a file with %s", async (command) => {
    await startTestWorker(db, hashProvider());
    const folder = await mkdtemp(join(tmpdir(), "embedd-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const texts = Array.from({ length: 200 }, (_, i) => `line ${i}, "quoted"`);
    const file = join(folder, "rows.csv");
    const csv = texts.map((text) => `${command},"${text.replaceAll('"', '""')}"\n`).join("");
    if (command === "copy") {
      await writeFile(
        file,
        `copy embedd.chunks (source, content) from stdin with (format csv);\n${csv}\\.\n`,
      );
      await psql("-f", file);
    } else {
      await writeFile(file, csv);
      await psql("-c", `\\copy embedd.chunks (source, content) from '${file}' with (format csv)`);
    }
    await expectVectors(command, texts);
  });
});
