import { access, readFile } from "node:fs/promises";
import { z } from "zod";
import { configurationError, messageOf } from "../../errors.js";

export function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/**
 * Reads a JSON file and checks it against a schema.
 * @throws EmbeddError `configuration`/`model_config`, naming the file
 */
export async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw configurationError("model_config", `cannot read ${path}: ${messageOf(error)}`);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw configurationError("model_config", `${path} is not supported:\n${z.prettifyError(parsed.error)}`);
}
