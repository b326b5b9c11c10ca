import type { Command } from "commander";
import { EmbeddError, messageOf } from "../errors.js";
import { MIN_PGVECTOR, MIN_POSTGRESQL } from "../supported-versions.js";
import { dimensionMisfit } from "../worker/dimension-misfit.js";
import type { Provider } from "../providers/provider.js";
import { createProvider } from "../providers/create-provider.js";
import { inspectConnection, inspectPipelines, inspectServer } from "../admin/inspect.sql.js";
import type { PipelineInspection, ServerInspection } from "../admin/inspect.sql.js";
import { loadPipelines } from "../database/load-pipelines.sql.js";
import { withOwnerClient } from "../database/pool.js";
import { countWorkers } from "../admin/status.sql.js";
import type { Context } from "./context.js";
import { withContext } from "./context.js";
import { EXIT } from "./exit.js";

/** One line of the diagnosis. `try` is for a shell or psql. */
interface Finding {
  state: "ok" | "warn" | "FAIL";
  what: string;
  try?: string;
}

export function addDoctor(program: Command): void {
  program
    .command("doctor")
    .description(
      "check everything that embedd needs, a line each, with what to type; exit code 1 on any failure",
    )
    .addHelpText("after", "\nExample:\n  embedd doctor")
    .action(async (_flags: object, command: Command) => {
      await withContext(command, async (context) => {
        let failed = false;
        for await (const finding of diagnose(context)) {
          failed ||= finding.state === "FAIL";
          const cure = finding.try === undefined ? "" : `\n      try: ${finding.try}`;
          process.stdout.write(`${finding.state.padEnd(4)}  ${finding.what}${cure}\n`);
        }
        if (failed) process.exitCode = EXIT.fault;
      });
    });
}

async function* diagnose({ databaseUrl, config }: Context): AsyncGenerator<Finding> {
  const model = await checkModel(config);
  yield model.finding;
  yield await checkConnection(databaseUrl);
  const findings = await withOwnerClient(databaseUrl, async (client) => {
    const server = await inspectServer(client);
    const found = checkServer(server);
    if (!server.migrated || !server.ownTables) return found;
    const { pipelines } = await loadPipelines(client);
    for (const pipeline of await inspectPipelines(client)) {
      const loaded = pipelines.find(({ id }) => id === pipeline.id);
      const misfit =
        model.provider !== null && loaded !== undefined && loaded.model === null
          ? dimensionMisfit(loaded, model.provider)
          : null;
      found.push(...checkPipeline(pipeline, server.role, loaded === undefined, misfit));
    }
    const workers = await countWorkers(client);
    found.push(
      workers > 0
        ? { state: "ok", what: `workers connected: ${workers}` }
        : { state: "warn", what: "no worker is connected", try: "embedd run" },
    );
    return found;
  });
  yield* findings;
}

async function checkModel(
  config: Context["config"],
): Promise<{ finding: Finding; provider: Provider | null }> {
  try {
    const provider = await createProvider(config);
    try {
      await provider.embed(["doctor"]);
      const how =
        config.provider === "local" ? "files, checksum" : `${config.provider} took the key and the address`;
      const what = `model ${provider.model}: ${how} and a vector of ${provider.dimensions} dimensions`;
      return { finding: { state: "ok", what }, provider };
    } finally {
      await provider.close();
    }
  } catch (error) {
    const cure = error instanceof EmbeddError ? error.hint : undefined;
    return {
      finding: {
        state: "FAIL",
        what: `model: ${messageOf(error)}`,
        ...(cure !== undefined && { try: cure }),
      },
      provider: null,
    };
  }
}

async function checkConnection(databaseUrl: string): Promise<Finding> {
  const problem = await inspectConnection(databaseUrl);
  return problem === null
    ? { state: "ok", what: "notifications and session locks come through" }
    : {
        state: "FAIL",
        what: `${problem}: a transaction pooler stands in front of the worker`,
        try: "export DATABASE_URL=postgres://… (PostgreSQL's own port, not the pooler's; writers may use the pooler)",
      };
}

function checkServer(server: ServerInspection): Finding[] {
  const found: Finding[] = [
    server.versionNumber >= MIN_POSTGRESQL * 10_000
      ? { state: "ok", what: `PostgreSQL ${server.version}` }
      : {
          state: "FAIL",
          what: `PostgreSQL ${server.version} is older than ${MIN_POSTGRESQL}`,
          try: "pg_upgrade",
        },
    server.pgvector === null
      ? { state: "FAIL", what: "the extension vector is not installed here", try: "embedd migrate" }
      : pgvectorFinding(server.pgvector),
  ];
  if (!server.migrated)
    found.push({ state: "FAIL", what: "there is no embedd schema", try: "embedd migrate" });
  else if (!server.ownTables) {
    found.push({
      state: "FAIL",
      what: `role ${server.role} may not use embedd's tables`,
      try: `embedd grant ${server.role}`,
    });
  } else found.push({ state: "ok", what: `schema embedd, as role ${server.role}` });
  const seconds = Math.abs(server.clockAheadMs) / 1000;
  found.push(
    seconds < 5
      ? { state: "ok", what: "clocks agree" }
      : {
          state: "warn",
          what: `the server's clock is ${seconds.toFixed(0)} s off ours; ages in logs mislead`,
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

function checkPipeline(
  p: PipelineInspection,
  role: string,
  broken: boolean,
  misfit: { what: string; cure: string } | null,
): Finding[] {
  const name = `${p.relation}.${p.embedding}`;
  const again = `embedd unwatch ${p.relation} && embedd watch ${p.relation} --content …`;
  const found: Finding[] = [];
  if (broken)
    found.push({ state: "FAIL", what: `${name}: ${p.error ?? "its table or a column is gone"}`, try: again });
  if (misfit !== null) found.push({ state: "FAIL", what: `${name}: ${misfit.what}`, try: misfit.cure });
  if (p.missingPrivileges !== null) {
    found.push({
      state: "FAIL",
      what: `${name}: ${role} lacks ${p.missingPrivileges.join(", ")}`,
      try: `embedd grant ${role}`,
    });
  }
  if (p.rowSecurity) {
    found.push({
      state: "FAIL",
      what: `${name}: row-level security hides rows from ${role}`,
      try: `ALTER ROLE ${role} BYPASSRLS;`,
    });
  }
  if (p.triggers !== null) {
    found.push({
      state: "FAIL",
      what: `${name}: triggers missing or disabled: ${p.triggers.join(", ")}`,
      try: `ALTER TABLE ${p.relation} ENABLE TRIGGER USER, ENABLE ALWAYS TRIGGER zzz_embedd_${p.id}__before_update; or ${again}`,
    });
  }
  if (p.pendingIndex !== "ready" && !broken) {
    found.push({
      state: "FAIL",
      what: `${name}: the index of waiting rows is ${p.pendingIndex}`,
      try: again,
    });
  }
  return found.length > 0 ? found : [{ state: "ok", what: `${name}: shape, privileges, triggers, index` }];
}
