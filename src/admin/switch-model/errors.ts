import { EmbeddError, configurationError } from "../../errors.js";
import { shellWord } from "../../shell-word.js";
import type { Switch } from "./switch.js";

/** The command that works on one column's switch, for a shell. */
export function switchCommand(
  { relation, embedding }: { relation: string; embedding: string },
  ...flags: string[]
): string {
  const column = embedding === "embedding" ? [] : ["--embedding", shellWord(embedding)];
  return ["embedd switch-model", shellWord(relation), ...column, ...flags].join(" ");
}

export function notWhole(running: Switch): EmbeddError {
  return configurationError(
    "not_whole",
    `a column that the switch of ${running.relation} needs is gone`,
    switchCommand(running, "--abort"),
  );
}

export function ended(relation: string): EmbeddError {
  return configurationError(
    "no_switch",
    `another command ended the switch of ${relation} meanwhile`,
    "embedd status",
  );
}

export function otherTarget(running: Switch): EmbeddError {
  return configurationError(
    "switching",
    `${running.relation} is already being switched to ${running.toModel} with ${running.toDimensions} dimensions`,
    switchCommand(running, "--abort"),
  );
}

export function noTarget(column: { relation: string; embedding: string }): EmbeddError {
  return configurationError(
    "no_target",
    "the new model and its dimensions are missing",
    switchCommand(column, "--model", "text-embedding-3-small", "--dimensions", "1536"),
  );
}

export function deadRows(running: Switch, dead: number, keys: readonly string[]): EmbeddError {
  const rows = dead === 1 ? "1 row" : `${dead} rows`;
  return configurationError(
    "dead_rows",
    `${rows} could not be embedded with ${running.toModel} and would lose their vector in the swap: ` +
      `${keys.join(", ")}${dead > keys.length ? ", …" : ""}`,
    `embedd failures --dead --table ${shellWord(running.relation)}  # then embedd retry, or ${switchCommand(running, "--force")}`,
  );
}

/** The swap is not retried at once: a lock held for this long every second would be an outage. */
export function slowSwap(running: Switch, cause: unknown): EmbeddError {
  return new EmbeddError(
    `the swap of ${running.relation} held its lock for too long and was rolled back; run it again when the server is less busy`,
    { kind: "database", code: "slow_swap", hint: switchCommand(running), cause },
  );
}
