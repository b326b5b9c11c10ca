import { pino } from "pino";
import { visible, visibleInJson, visibleInLine } from "./visible.js";

/** The logger that embedd needs; a pino logger fits. Details never hold text from users' rows. */
export type Logger = Record<"debug" | "info" | "warn" | "error", (details: object, message: string) => void>;

export interface LogOptions {
  level: "debug" | "info" | "warn" | "error" | "silent";
  /** `pretty` for people, `json` for machines. */
  format: "pretty" | "json";
}

/** Logs to standard error; standard output is for a command's result. */
export function createLogger({ level, format }: LogOptions): Logger {
  if (format === "json")
    return pino(
      { level, base: null, hooks: { streamWrite: visible } },
      pino.destination({ fd: 2, sync: true }),
    );
  return pino({
    level,
    base: null,
    hooks: {
      streamWrite: visibleInJson,
      // pino-pretty prints the message as it is.
      logMethod([details, message, ...more], method) {
        method.call(this, details, typeof message === "string" ? visibleInLine(message) : message, ...more);
      },
    },
    transport: {
      target: "pino-pretty",
      options: { destination: 2, sync: true, ignore: "pid,hostname", translateTime: "SYS:HH:MM:ss.l" },
    },
  });
}

/** A repeated error is logged once in this time. */
const REPEAT_MS = 1_000;
/** How many causes are remembered. */
const MAX_CAUSES = 1_000;

/**
 * Logs at most one line per second with the same message and cause, from all pipelines together. The next line has
 * the number of lines that were left out, as `suppressed`.
 */
export function limitRepeats(log: Logger, now: () => number = () => performance.now()): Logger {
  const seen = new Map<string, { at: number; suppressed: number }>();
  const limited = (level: "info" | "warn" | "error") => (details: object, message: string) => {
    const { code, cause, pipeline } = details as Record<"code" | "cause" | "pipeline", unknown>;
    const key = `${level} ${message} ${String(code ?? cause ?? pipeline)}`;
    const last = seen.get(key);
    const at = now();
    if (last !== undefined && at - last.at < REPEAT_MS) {
      last.suppressed++;
      return;
    }
    if (seen.size >= MAX_CAUSES) seen.clear();
    seen.set(key, { at, suppressed: 0 });
    const suppressed = last?.suppressed ?? 0;
    log[level](suppressed > 0 ? { ...details, suppressed } : details, message);
  };
  return {
    debug: log.debug.bind(log),
    info: limited("info"),
    warn: limited("warn"),
    error: limited("error"),
  };
}

export const silentLogger: Logger = pino({ level: "silent" });
