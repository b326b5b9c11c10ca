import { statSync } from "node:fs";
import { parse } from "dotenv";
import { messageOf } from "./errors.js";
import { distrust, readSmallFile } from "./small-file.js";

export interface EnvFile {
  /** All variables in it; `loadConfig` takes embedd's own. */
  values: Readonly<Record<string, string>>;
  /** Why it is ignored; null: it is read, or there is none. */
  ignored: string | null;
}

/** Reads `.env` of the working directory. A folder of that name, such as a virtual environment of Python, is none. */
export function readEnvFile(path = ".env"): EnvFile {
  try {
    if (statSync(path).isDirectory()) return { values: {}, ignored: null };
    const file = readSmallFile(path);
    const ignored = distrust(file);
    return { values: ignored === null ? parse(file.text) : {}, ignored };
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    return { values: {}, ignored: missing ? null : messageOf(error) };
  }
}
