import { parse } from "dotenv";
import { messageOf } from "./errors.js";
import { distrust, readSmallFile } from "./small-file.js";

export interface EnvFile {
  /** embedd's own variables in it. */
  values: Readonly<Record<string, string>>;
  /** Why it is ignored; null: it is read, or there is none. */
  ignored: string | null;
}

/** A program must not depend on the folder that it is started in for anything but its settings. */
export const isOwn = (name: string, known: readonly string[]): boolean =>
  known.includes(name) || name.startsWith("EMBEDD_");

/** Reads `.env` of the working directory. @param known embedd's variables; others are left out */
export function readEnvFile(known: readonly string[], path = ".env"): EnvFile {
  try {
    const file = readSmallFile(path);
    const ignored = distrust(file);
    if (ignored !== null) return { values: {}, ignored };
    const values = Object.entries(parse(file.text)).filter(([name]) => isOwn(name, known));
    return { values: Object.fromEntries(values), ignored: null };
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    return { values: {}, ignored: missing ? null : messageOf(error) };
  }
}
