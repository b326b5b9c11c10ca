import { pino } from "pino";
import type { Logger as PinoLogger } from "pino";

/** What embedd needs of a logger; a pino logger is one. Objects hold no text of a user's rows. */
export type Logger = Pick<PinoLogger, "debug" | "info" | "warn" | "error">;

export interface LogOptions {
  level: "debug" | "info" | "warn" | "error" | "silent";
  /** `pretty` for people, `json` for machines. */
  format: "pretty" | "json";
}

/** Logs to standard error, so that standard output stays a command's result. */
export function createLogger({ level, format }: LogOptions): Logger {
  if (format === "json") return pino({ level, base: null }, pino.destination({ fd: 2, sync: true }));
  return pino({
    level,
    base: null,
    transport: {
      target: "pino-pretty",
      options: { destination: 2, sync: true, ignore: "pid,hostname", translateTime: "SYS:HH:MM:ss.l" },
    },
  });
}

export const silentLogger: Logger = pino({ level: "silent" });
