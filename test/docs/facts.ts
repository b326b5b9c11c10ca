import { readFile } from "node:fs/promises";
import { EXIT_CODES } from "#embedd/cli/exit.js";
import { ERROR_CODES } from "#embedd/error-codes.js";
import type { ErrorKind } from "#embedd/error-codes.js";
import { MIN_PGVECTOR, MIN_POSTGRESQL } from "#embedd/supported-versions.js";
import { escapeMarkdown, root } from "./markers.js";

export function renderExitCodes(): string {
  return EXIT_CODES.map(({ code, meaning }) => `- \`${code}\`: ${meaning}`).join("\n");
}

const KINDS: Record<ErrorKind, string> = {
  configuration: "A setting, a table or the command line is wrong. Nothing was changed; exit code 2.",
  provider: "The model or its server failed. No row counts as failed; the worker tries again later.",
  row: "One row cannot be embedded. It is recorded in `embedd.failures` and tried again with growing delays, up to EMBEDD_MAX_ATTEMPTS times.",
  database: "A statement failed. Exit code 1; run the command again.",
};

export function renderErrorCodes(): string {
  return Object.entries(KINDS)
    .map(([kind, meaning]) => {
      const codes = Object.entries(ERROR_CODES).filter(([, entry]) => entry.kind === kind);
      const items = codes.map(
        ([code, entry]) =>
          `- \`${code}\`: ${escapeMarkdown(entry.meaning)} **Fix:** ${escapeMarkdown(entry.fix)}`,
      );
      return `### Kind \`${kind}\`\n\n${meaning}\n\n${items.join("\n")}`;
    })
    .join("\n\n");
}

export async function renderVersions(): Promise<string> {
  const { engines } = JSON.parse(await readFile(`${root}/package.json`, "utf8")) as {
    engines: { node: string };
  };
  return [
    `- Node.js ${engines.node.replace(">=", "")} or newer`,
    `- PostgreSQL ${MIN_POSTGRESQL} or newer`,
    `- pgvector ${MIN_PGVECTOR.join(".")} or newer`,
  ].join("\n");
}
