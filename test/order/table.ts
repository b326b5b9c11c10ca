import pg from "pg";
import type { Random } from "../faults/random.js";
import { pick } from "../faults/random.js";
import type { Stage } from "./stage.js";

/** A broken guarantee. */
export class Violation extends Error {}

/** The application's table as its owner knows it now. */
export interface Table {
  schema: string;
  name: string;
  title: string;
  body: string;
  embedding: string;
  model: string;
  exists: boolean;
}

/** A row as an application that saves whole rows holds it. */
export interface HeldRow {
  id: number;
  title: string | null;
  body: string | null;
  vector: string | null;
  model: string | null;
}

/** What the sequence has done so far. */
export interface World {
  stage: Stage;
  table: Table;
  /** The owner wants it embedded, as the last command left it. */
  watched: boolean;
  installed: boolean;
  granted: boolean;
  held: HeldRow[];
  /** A dump of the table, and what it was like then. */
  dump: { script: string; table: Table } | null;
  /** Vectors that their owner chose to trust, with the row's texts at that time. */
  trusted: Set<string>;
  /** How many objects were renamed so far. */
  names: number;
  lines: string[];
}

export const quote = (name: string): string => pg.escapeIdentifier(name);
export const nameOf = ({ schema, name }: Table): string => `${quote(schema)}.${quote(name)}`;
export const newWorld = (stage: Stage): World => ({
  stage,
  table: {
    schema: "public",
    name: "docs",
    title: "title",
    body: "body",
    embedding: "embedding",
    model: "embedding_model",
    exists: true,
  },
  watched: false,
  installed: true,
  granted: false,
  held: [],
  dump: null,
  trusted: new Set(),
  names: 0,
  lines: [],
});

type TextColumn = "title" | "body";

const trustKey = (row: HeldRow, columns: readonly TextColumn[]): string =>
  JSON.stringify([row.id, row.vector, columns.map((column) => [column, row[column]])]);

/** The row's owner trusts its vector until its text changes, whichever columns the text is made of. */
export function trust({ trusted }: World, row: HeldRow): void {
  for (const columns of [["title"], ["body"], ["body", "title"]] as const)
    trusted.add(trustKey(row, columns));
}

/** @param content the columns that the text is made of, as they are called now */
export function isTrusted({ table, trusted }: World, row: HeldRow, content: readonly string[]): boolean {
  const used = (["body", "title"] as const).filter((column) => content.includes(table[column]));
  return trusted.has(trustKey(row, used.length === content.length ? used : ["body", "title"]));
}

export async function readRows(client: pg.Client, table: Table, where = "true"): Promise<HeldRow[]> {
  const { title, body, embedding, model } = table;
  const { rows } = await client.query<HeldRow>(
    `select id, ${quote(title)} as title, ${quote(body)} as body, ${quote(embedding)}::text as vector,
       ${quote(model)} as model
     from ${nameOf(table)} where ${where} order by id`,
  );
  return rows;
}

/** Few, so that rows often get a text that they or others had before. Others are new, so that no cache has their vector. */
const TEXTS = 12;

export function newText(random: Random): string | null {
  const share = random();
  if (share < 0.08) return pick(random, [null, "", " \n"]);
  const number = Math.floor(share * 1e9);
  return `text ${share < 0.6 ? number % TEXTS : number}`;
}
