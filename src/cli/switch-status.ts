import type { Pool } from "pg";
import { countBehind, countTexts } from "../admin/switch-model/backlog.sql.js";
import { switchCommand } from "../admin/switch-model/errors.js";
import { isFilled } from "../admin/switch-model/fill.js";
import { switchIndexes } from "../admin/switch-model/indexes.sql.js";
import type { Switch, SwitchIndex } from "../admin/switch-model/switch.js";

/** What `switch-model --status` shows of one switch. */
interface SwitchProgress extends Switch {
  step: "fill" | "index" | "swap";
  /** Rows with a new vector. */
  done: number;
  /** Rows with text and no new vector. */
  left: number;
  /** Of those, the rows with an old vector. */
  behind: number;
  /** Of those, the dead rows. */
  dead: number;
  indexes: Pick<SwitchIndex, "name" | "replaces" | "state">[];
}

/** Counts what a switch has done and what is left; only the switch itself if a column that it needs is gone. */
export async function readProgress(
  pool: Pool,
  running: Switch,
  maxBehind: number,
): Promise<Switch | SwitchProgress> {
  if (!running.whole) return running;
  const counts = await countBehind(pool, running.shadow);
  const texts = await countTexts(pool, running.shadow);
  const indexes = await switchIndexes(pool, running);
  const filled = isFilled(running, counts, maxBehind);
  return {
    ...running,
    step: !filled ? "fill" : indexes.some(({ state }) => state !== "ready") ? "index" : "swap",
    done: texts - counts.pending,
    left: counts.pending,
    behind: counts.behind,
    dead: counts.dead,
    indexes: indexes.map(({ name, replaces, state }) => ({ name, replaces, state })),
  };
}

export function formatSwitches(switches: readonly (Switch | SwitchProgress)[]): string {
  if (switches.length === 0) return "no switch is running\n";
  return switches.map((s) => ("step" in s ? formatProgress(s) : formatBroken(s))).join("");
}

function formatProgress(s: SwitchProgress): string {
  const worker = s.served ? "connected" : `no worker of ${s.toModel} is connected`;
  const lines = [
    `${s.relation}.${s.embedding}: from ${s.fromModel} (${s.fromDimensions}) to ${s.toModel} (${s.toDimensions})`,
    `  step      ${s.step}`,
    `  rows      ${s.done} done, ${s.left} left, ${s.dead} dead`,
    `  worker    ${worker}${s.error === null ? "" : `; ${s.error}`}`,
    ...s.indexes.map(({ name, state }) => `  index     ${name}: ${state}`),
  ];
  return `${lines.join("\n")}\n`;
}

function formatBroken(s: Switch): string {
  return `${s.relation}.${s.embedding}: a column that the switch needs is gone; undo it with: ${switchCommand(s, "--abort")}\n`;
}
