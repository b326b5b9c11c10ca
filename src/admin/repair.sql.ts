import type { ClientBase } from "pg";

export interface RepairOptions {
  /** The name that the table has or last had, as SQL writes it. */
  relation: string;
  /** Only this column's pipeline. @default all of the table */
  embedding?: string | undefined;
  /** What to do with vectors that may belong to earlier texts: trust them, or embed their rows again. */
  existing?: "keep" | "refresh" | undefined;
}

/** Restores triggers and privileges. @returns the pipelines */
export async function repairPipelines(
  client: ClientBase,
  { relation, embedding, existing }: RepairOptions,
): Promise<number[]> {
  const { rows } = await client.query<{ id: number }>("select embedd.repair($1, $2, $3) as id", [
    relation,
    embedding,
    existing,
  ]);
  return rows.map(({ id }) => id);
}
