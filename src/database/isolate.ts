import pg from "pg";

/**
 * SQLSTATE classes that are never about one row: connections, features, authorization, transaction state, cursors,
 * names, rollbacks, syntax and rights, resources, locks, shutdowns, configuration, system errors.
 */
const OTHER_CLASSES = new Set(
  [
    "08",
    "0A",
    "0B",
    "0L",
    "0P",
    "25",
    "26",
    "28",
    "2D",
    "34",
    "3B",
    "3D",
    "3F",
    "40",
    "42",
    "53",
    "55",
  ].concat(["57", "58", "F0"]),
);
/** Out of memory, a timeout, an I/O error: caused by one row, such as a huge text, or by the server. */
const SUSPECTS = new Set(["53200", "57014", "58030"]);

const codeOf = (error: unknown): string | undefined =>
  error instanceof pg.DatabaseError ? error.code : undefined;

/** Whether a statement that reads rows may have failed because of one of them. */
export function mayBeRows(error: unknown): boolean {
  const code = codeOf(error);
  return code !== undefined && (SUSPECTS.has(code) || !OTHER_CLASSES.has(code.slice(0, 2)));
}

export interface Isolated<Item, Result> {
  results: Result[];
  failed: { item: Item; code: string; error: unknown }[];
}

/**
 * Runs `work` on all items. If it fails because of one of them, halves the items until that one stands alone: at
 * most 2·k·log2(n) + 2 calls for k bad items among n.
 * @param beforeHalving runs once, before the first halving; what it throws ends the attempt
 * @param isItems whether an error may be about one item
 * @throws every error that is not about one item, also one that the server may have caused if no item succeeded
 */
export async function isolateFailing<Item, Result>(
  items: readonly Item[],
  work: (items: readonly Item[]) => Promise<Result[]>,
  beforeHalving: () => Promise<void>,
  isItems: (error: unknown) => boolean = mayBeRows,
): Promise<Isolated<Item, Result>> {
  const results: Result[] = [];
  const failed: Isolated<Item, Result>["failed"] = [];
  let checked = false;
  let succeeded = false;

  async function attempt(part: readonly Item[]): Promise<void> {
    const [first] = part;
    if (first === undefined) return;
    try {
      results.push(...(await work(part)));
      succeeded = true;
    } catch (error) {
      if (!isItems(error)) throw error;
      if (!checked) await beforeHalving();
      checked = true;
      if (part.length === 1) {
        failed.push({ item: first, code: codeOf(error) ?? "", error });
        return;
      }
      const half = Math.ceil(part.length / 2);
      await attempt(part.slice(0, half));
      await attempt(part.slice(half));
    }
  }

  await attempt(items);
  const suspect = failed.find(({ code }) => SUSPECTS.has(code));
  if (!succeeded && suspect !== undefined) throw suspect.error;
  return { results, failed };
}
