import pg from "pg";
import { isSchemaMissing } from "../database/call-schema.js";
import { configurationError } from "../errors.js";
import { DEFAULTS } from "../defaults.js";
import type { Logger } from "../logger.js";
import type { WorkerOptions } from "./worker-options.js";

/** Notices that embedd's schema was dropped for good, as by `embedd uninstall`. */
export interface SchemaWatch {
  /** A statement that needs the schema succeeded. */
  found: () => void;
  /** A statement failed. Errors of any other cause than a missing schema say nothing. */
  failed: (error: unknown) => void;
}

export function createSchemaWatch(
  log: Logger,
  {
    schemaGraceMs: graceMs = DEFAULTS.schemaGraceMs,
    onGone,
  }: Pick<WorkerOptions, "schemaGraceMs" | "onGone">,
  now: () => number = () => performance.now(),
): SchemaWatch {
  let missingSince: number | null = null;
  let over = false;
  return {
    found() {
      if (missingSince === null || over) return;
      missingSince = null;
      log.info({}, "embedd's schema is back");
    },
    failed(error) {
      if (over || !(error instanceof pg.DatabaseError) || !isSchemaMissing(error)) return;
      if (missingSince === null) {
        missingSince = now();
        log.error(
          {},
          `embedd's schema is gone; this worker ends in ${graceMs / 1_000} s unless it returns: embedd migrate`,
        );
      }
      if (now() - missingSince < graceMs) return;
      over = true;
      onGone?.(
        configurationError(
          "not_migrated",
          "embedd's schema was dropped while the worker ran, for example by embedd uninstall",
          "embedd migrate",
        ),
      );
    },
  };
}
