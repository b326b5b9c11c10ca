import { stat } from "node:fs/promises";
import { z } from "zod";
import { configurationError, messageOf } from "../../errors.js";
import { readSmallFile } from "../../small-file.js";

/** Whether there is a regular file: reading a FIFO or a device would never end. */
export function exists(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

export function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/**
 * Reads a JSON file and checks it against a schema.
 * @throws EmbeddError `configuration`/`model_config`, naming the file
 */
export function readJson<T>(path: string, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(readSmallFile(path).text);
  } catch (error) {
    throw configurationError("model_config", `cannot read ${path}: ${messageOf(error)}`);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw configurationError("model_config", `${path} is not supported:\n${z.prettifyError(parsed.error)}`);
}
