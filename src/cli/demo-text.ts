import { readFile, readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export interface Chunk {
  /** The file, relative to node_modules. */
  source: string;
  position: number;
  content: string;
}

/** Roughly 160 tokens of a README, well under the model's 256. */
const CHUNK_CHARS = 560;

/** The directory of our dependencies: our own node_modules, or the one we are installed in. */
async function dependencyFolder(): Promise<string> {
  for (const up of ["../../node_modules", "../../.."]) {
    const folder = fileURLToPath(new URL(up, import.meta.url));
    const names: string[] = await readdir(folder).catch(() => []);
    if (names.includes("pg")) return folder;
  }
  return fileURLToPath(new URL("../../node_modules", import.meta.url));
}

async function markdownFiles(folder: string, depth: number): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const files = entries.filter(
    (e) => e.isFile() && /\.md$/i.test(e.name) && !/changelog|license|history/i.test(e.name),
  );
  const folders = entries.filter((e) => e.isDirectory() && e.name !== "node_modules" && depth > 0);
  const below = await Promise.all(folders.map((e) => markdownFiles(join(folder, e.name), depth - 1)));
  return [...files.map((e) => join(folder, e.name)), ...below.flat()];
}

/** Splits Markdown at blank lines into chunks of about `CHUNK_CHARS` characters. */
function cutIntoChunks(text: string): string[] {
  const chunks: string[] = [];
  let chunk = "";
  for (const paragraph of text.split(/\n\s*\n/)) {
    // A paragraph that is much longer than a chunk is split at line ends.
    for (const piece of paragraph.length > 2 * CHUNK_CHARS ? paragraph.split("\n") : [paragraph]) {
      if (chunk !== "" && chunk.length + piece.length > CHUNK_CHARS) {
        chunks.push(chunk);
        chunk = "";
      }
      chunk += chunk === "" ? piece : `\n${piece}`;
    }
  }
  chunks.push(chunk);
  return chunks.filter((c) => /\p{L}{3}/u.test(c));
}

/** Reads at most `limit` chunks of our dependencies' documentation; direct dependencies come first. */
export async function readDocumentation(limit: number): Promise<Chunk[]> {
  const folder = await dependencyFolder();
  const first = ["pg", "pgvector", "pino", "zod", "commander", "graphile-migrate", "dotenv"];
  const all: string[] = await readdir(folder).catch(() => []);
  const packages = [...first, ...all.filter((name) => !first.includes(name) && !name.startsWith(".")).sort()];
  const chunks: Chunk[] = [];
  for (const name of packages) {
    for (const file of (await markdownFiles(join(folder, name), 2)).sort()) {
      const pieces = cutIntoChunks(await readFile(file, "utf8"));
      // No single file may fill the demo.
      for (const [position, content] of pieces.slice(0, 60).entries()) {
        chunks.push({ source: relative(folder, file), position, content });
        if (chunks.length >= limit) return chunks;
      }
    }
  }
  return chunks;
}
