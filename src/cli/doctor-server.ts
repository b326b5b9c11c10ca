import { MIN_CONNECTIONS } from "../defaults.js";
import { messageOf } from "../errors.js";
import { MIN_PGVECTOR, MIN_POSTGRESQL } from "../supported-versions.js";
import { directUrl, inspectConnection } from "../database/inspect-connection.js";
import type { ServerInspection } from "../admin/inspect.sql.js";
import { isReadOnly } from "../database/session-error.js";
import { shellWord } from "../shell-word.js";
import type { Finding } from "./doctor-pipeline.js";
import { counted } from "./text.js";

/** too_many_connections */
const NO_SLOT = "53300";

/** @returns `usable`: further connections may be opened */
export async function checkConnection(
  databaseUrl: string,
): Promise<{ finding: Finding | null; usable: boolean }> {
  try {
    return { finding: await checkPooler(databaseUrl), usable: true };
  } catch (error) {
    // A standby knows no notifications. The server's own findings say what it is.
    if (isReadOnly(error)) return { finding: null, usable: true };
    if ((error as { code?: unknown }).code !== NO_SLOT) throw error;
    const what = `${messageOf(error)}; a worker needs ${MIN_CONNECTIONS} connections`;
    const fix = "ALTER ROLE embedd_worker CONNECTION LIMIT 10;  -- or raise max_connections";
    return { finding: { state: "FAIL", what, try: fix }, usable: false };
  }
}

async function checkPooler(databaseUrl: string): Promise<Finding> {
  const problem = await inspectConnection(databaseUrl);
  return problem === null
    ? { state: "ok", what: "notifications arrive and sessions keep their locks" }
    : {
        state: "FAIL",
        what: `${problem}: a transaction pooler is between embedd and PostgreSQL; only writers may use it`,
        try: `export DATABASE_URL=${shellWord(directUrl(databaseUrl))}  # PostgreSQL's own host and port`,
      };
}

export function checkServer(server: ServerInspection): Finding[] {
  const found: Finding[] = [
    server.versionNumber >= MIN_POSTGRESQL * 10_000
      ? { state: "ok", what: `PostgreSQL ${server.version}` }
      : {
          state: "FAIL",
          what: `PostgreSQL ${server.version} is older than ${MIN_POSTGRESQL}`,
          try: "pg_upgrade --help",
        },
    server.pgvector === null
      ? {
          state: "FAIL",
          what: "the extension vector is not installed in this database",
          try: "embedd migrate",
        }
      : pgvectorFinding(server.pgvector),
  ];
  if (!server.migrated)
    found.push({ state: "FAIL", what: "this database has no embedd schema", try: "embedd migrate" });
  else if (server.missingPrivileges.length > 0) {
    const [first = "", ...more] = server.missingPrivileges;
    found.push({
      state: "FAIL",
      what: `role ${server.role} lacks ${first}${more.length > 0 ? ` and ${counted(more.length, "more privilege")}` : ""}`,
      try: `embedd grant ${shellWord(server.role)}`,
    });
  } else found.push({ state: "ok", what: `schema embedd, as role ${server.role}` });
  const seconds = Math.abs(server.clockAheadMs) / 1000;
  found.push(
    seconds < 5
      ? { state: "ok", what: "the server's clock agrees with this machine's" }
      : {
          state: "warn",
          what: `the server's clock is ${seconds.toFixed(0)} s off this machine's, so ages in logs are wrong`,
          try: "timedatectl set-ntp true",
        },
  );
  return found;
}

function pgvectorFinding(version: string): Finding {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > MIN_PGVECTOR[0] || (major === MIN_PGVECTOR[0] && minor >= MIN_PGVECTOR[1])
    ? { state: "ok", what: `pgvector ${version}` }
    : { state: "FAIL", what: `pgvector ${version} has no halfvec`, try: "ALTER EXTENSION vector UPDATE;" };
}
