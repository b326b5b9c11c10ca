import pg from "pg";
import type { PipelineInspection } from "../admin/inspect.sql.js";
import { shellWord } from "../admin/shell-word.js";

/** One line of the diagnosis. `try` is a command for a shell, or a statement for psql. */
export interface Finding {
  state: "ok" | "warn" | "FAIL";
  what: string;
  try?: string;
}

/** Everything that keeps a role from working on a pipeline; one `ok` if nothing does. */
export function checkPipeline(
  p: PipelineInspection,
  role: string,
  broken: boolean,
  misfit: { what: string; cure: string } | null,
): Finding[] {
  const name = `${p.relation}.${p.embedding}`;
  const found: Finding[] = [];
  const fail = (what: string, fix: string): void => {
    found.push({ state: "FAIL", what: `${name}: ${what}`, try: fix });
  };
  if (broken) fail(p.error ?? "its table or a column is gone", watchCommand(p));
  if (misfit !== null) fail(misfit.what, misfit.cure);
  if (p.missingPrivileges !== null) {
    fail(`${role} lacks ${p.missingPrivileges.join(", ")}`, `embedd grant ${shellWord(role)}`);
  }
  if (p.rowSecurity)
    fail(`row-level security hides rows from ${role}`, `ALTER ROLE ${quoted(role)} BYPASSRLS;`);
  if (p.missingTriggers !== null) {
    fail(`triggers are missing: ${p.missingTriggers.join(", ")}`, rewatchCommand(p));
  }
  if (p.disabledTriggers !== null) {
    const enable = p.disabledTriggers.map(
      (event) => `ENABLE ${event === "before_update" ? "ALWAYS " : ""}TRIGGER zzz_embedd_${p.id}__${event}`,
    );
    fail(
      `triggers are disabled: ${p.disabledTriggers.join(", ")}`,
      `ALTER TABLE ${p.relation} ${enable.join(", ")};`,
    );
  }
  if (p.pendingIndex !== "ready" && !broken)
    fail(`the index of pending rows is ${p.pendingIndex}`, rewatchCommand(p));
  return found.length > 0
    ? found
    : [{ state: "ok", what: `${name}: columns, privileges, triggers and index` }];
}

/** Watches a table with the settings that it has now; content columns that are gone are left out. */
function watchCommand(p: PipelineInspection): string {
  const content = p.content.length > 0 ? p.content : ["body"];
  const options = {
    content: content.map(shellWord).join(" "),
    embedding: p.embedding === "embedding" ? null : shellWord(p.embedding),
    "model-column": p.modelColumn === `${p.embedding}_model` ? null : shellWord(p.modelColumn),
    template: p.template === null ? null : shellWord(p.template),
    model: p.model === null ? null : shellWord(p.model),
    index: p.indexMethod,
  };
  const given = Object.entries(options).flatMap(([name, value]) =>
    value === null ? [] : [`--${name} ${value}`],
  );
  return `embedd watch ${shellWord(p.relation)} ${given.join(" ")}`;
}

function rewatchCommand(p: PipelineInspection): string {
  return `embedd unwatch ${shellWord(p.relation)} --embedding ${shellWord(p.embedding)} && ${watchCommand(p)} --existing refresh`;
}

const quoted = (role: string): string => (/^[a-z_][a-z0-9_]*$/.test(role) ? role : pg.escapeIdentifier(role));
