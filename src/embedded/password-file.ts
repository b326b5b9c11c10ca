import { randomUUID } from "node:crypto";
import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** Where a server listens, and what it asks its clients for. */
export interface Access {
  port: number;
  password: string;
}

/** The password file in the folder around the database, in the format of PGPASSFILE. */
export const passwordFile = (folder: string): string => join(folder, "embedd.pgpass");

/** Writes a file that only this user can read, all at once. */
export async function writePrivate(path: string, text: string): Promise<void> {
  const draft = `${path}.${randomUUID()}.tmp`;
  try {
    await writeFile(draft, text, { flag: "wx", mode: 0o600 });
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true }).catch(() => undefined);
    throw error;
  }
}

export function writePasswordFile(path: string, { port, password }: Access): Promise<void> {
  return writePrivate(path, `127.0.0.1:${port}:*:*:${password}\n`);
}

/** An address with the password. */
export function addressWithPassword({ port, password }: Access): string {
  return `postgres://postgres:${password}@127.0.0.1:${port}/postgres`;
}

/** The same address for people: psql and other programs that use libpq read the password from the file. */
export function addressToShow({ port }: Access, path: string): string {
  const escaped = path.split("/").map(encodeURIComponent).join("/");
  return `postgres://postgres@127.0.0.1:${port}/postgres?passfile=${escaped}`;
}
