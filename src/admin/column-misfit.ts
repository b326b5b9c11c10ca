import type { ClientBase } from "pg";
import { callSchema } from "../database/call-schema.js";
import type { EmbeddError } from "../errors.js";
import { configurationError } from "../errors.js";
import type { ModelShape } from "../providers/model-shape.js";
import { watchCommand } from "./watch-command.js";
import { readVectorType } from "./watch.sql.js";
import type { WatchOptions } from "./watch.sql.js";

/** Why a model can never fill the column that `watch` is told of, with what to type instead; null: it can. */
export async function findMisfit(
  client: ClientBase,
  options: WatchOptions,
  shape: ModelShape,
): Promise<EmbeddError | null> {
  const { relation, embedding, createColumns } = options;
  const column = await callSchema(() => readVectorType(client, options));
  const dimensions = column?.dimensions ?? createColumns;
  // The schema refuses a column that is missing or no vector.
  if (dimensions === undefined || dimensions < 1 || shape.supportsDimensions(dimensions)) return null;
  const is = column === undefined ? `would be vector(${dimensions})` : `is ${column.type}`;
  const makes = `${shape.model} makes ${shape.dimensions} dimensions`;
  const instead = column === undefined ? embedding : `${embedding}_${shape.dimensions}`;
  const columns = { embedding: instead, createColumns: shape.dimensions };
  return configurationError(
    "dimensions",
    `column ${embedding} of ${relation} ${is}, but ${makes}`,
    watchCommand({
      ...options,
      ...columns,
      modelColumn: column === undefined ? options.modelColumn : undefined,
    }),
  );
}

/** @throws EmbeddError with code `dimensions` if the column exists with other dimensions than are to be added */
export async function checkCreatedColumn(client: ClientBase, options: WatchOptions): Promise<void> {
  const { relation, embedding, createColumns } = options;
  if (createColumns === undefined) return;
  const column = await callSchema(() => readVectorType(client, options));
  if (column === undefined || column.dimensions < 1 || column.dimensions === createColumns) return;
  throw configurationError(
    "dimensions",
    `column ${embedding} of ${relation} exists and is ${column.type}, not vector(${createColumns})`,
    watchCommand({ ...options, embedding: `${embedding}_${createColumns}`, modelColumn: undefined }),
  );
}
