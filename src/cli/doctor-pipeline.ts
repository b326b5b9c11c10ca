import pg from "pg";
import type { PipelineInspection } from "../admin/inspect.sql.js";
import { splitAdvice } from "../database/advice.js";
import { shellWord } from "../shell-word.js";
import type { CutToday } from "../admin/status.sql.js";
import { CUT_ADVICE, NOTABLE_CUT_SHARE, cutShareText } from "./cut-texts.js";

/** One line of the diagnosis. `try` is a command for a shell, or a statement for psql. */
export interface Finding {
  state: "ok" | "warn" | "FAIL";
  what: string;
  try?: string;
}

/**
 * Everything that keeps a role from working on a pipeline; one `ok` if nothing does.
 * @param broken why no worker can serve the table as it stands, and what to type; null: one can
 */
export function checkPipeline(
  p: PipelineInspection,
  role: string,
  broken: string | null,
  misfit: { what: string; cure: string } | null,
): Finding[] {
  const name = `${p.relation}.${p.embedding}`;
  const found: Finding[] = [];
  const fail = (what: string, fix: string): void => {
    found.push({ state: "FAIL", what: `${name}: ${what}`, try: fix });
  };
  const repair = `embedd repair ${shellWord(p.relation)}`;
  if (p.tableProblem !== null) {
    const [what, fix] = splitAdvice(p.tableProblem);
    return [{ state: "FAIL", what: `${name}: ${what}`, try: fix }];
  }
  if (p.rolesWithoutSchema !== null) {
    for (const lacking of p.rolesWithoutSchema)
      fail(`${lacking} lacks USAGE on schema ${p.schema ?? "?"}`, `embedd grant ${shellWord(lacking)}`);
  } else if (broken !== null && !p.rowSecurity) {
    const [what, fix] = splitAdvice(broken);
    if (/^(embedd|ALTER) /.test(fix)) fail(what, fix);
    else fail(broken, watchCommand(p));
  }
  if (misfit !== null) fail(misfit.what, misfit.cure);
  if (p.missingPrivileges !== null) {
    fail(`${role} lacks ${p.missingPrivileges.join(", ")}`, `embedd grant ${shellWord(role)}`);
  }
  if (p.rowSecurity)
    fail(`row-level security hides rows from ${role}`, `ALTER ROLE ${quoted(role)} BYPASSRLS;`);
  if (p.gap !== null)
    fail(`vectors may belong to earlier texts: ${p.gap}`, `${repair} --existing refresh  # or keep`);
  else if (p.flaw !== null && p.pendingIndex === "ready") fail(p.flaw, repair);
  if (p.pendingIndex !== "ready" && broken === null)
    fail(`the index of pending rows is ${p.pendingIndex}`, repair);
  if (p.vectorIndex === "failed") {
    fail(
      "the vector index is invalid, slows writers, and no session is building it",
      "embedd run --once  # as the table's owner: drops it and builds it again",
    );
  }
  return found.length > 0
    ? found
    : [{ state: "ok", what: `${name}: columns, privileges, triggers and index` }];
}

/** One line per table whose texts were cut today: a warning where many were. */
export function checkCutTexts(today: readonly CutToday[]): Finding[] {
  return today
    .filter(({ cutTexts }) => cutTexts > 0)
    .map(({ relation, embedding, texts, cutTexts }) => {
      const what = `${relation}.${embedding}: ${cutShareText(cutTexts, texts)} of today's texts were cut at the model's limit`;
      return cutTexts < NOTABLE_CUT_SHARE * texts
        ? { state: "ok", what }
        : { state: "warn", what: `${what}; ${CUT_ADVICE}` };
    });
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

const quoted = (role: string): string => (/^[a-z_][a-z0-9_]*$/.test(role) ? role : pg.escapeIdentifier(role));
