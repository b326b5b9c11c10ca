import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { inject, onTestFinished } from "vitest";
import { waitFor } from "./wait.js";

export interface CliExit {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface CliProcess {
  child: ChildProcess;
  /** Its output so far. */
  readonly stdout: string;
  readonly stderr: string;
  exited: Promise<CliExit>;
  /** The first line, of either stream, that matches; fails at once if the process ends without it. */
  waitForLine(pattern: RegExp): Promise<string>;
}

export interface CliOptions {
  /** Added to the test's own environment, without its DATABASE_URL and EMBEDD_ variables, to long timers, and to a small model. */
  env?: Record<string, string>;
  cwd?: string;
  input?: string;
  /** The command's main file. @default the built one */
  main?: string;
}

const builtMain = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** As in worker.ts: no test passes because of a timer that makes up for what a worker missed. */
const WITHOUT_TIMERS = {
  EMBEDD_POLL_INTERVAL_MS: "3600000",
  EMBEDD_LEASE_MS: "3600000",
  EMBEDD_RETRY_DELAY_MS: "3600000",
};

/** For commands whose vectors or tokens a test looks at. The small model starts in a third of the time. */
export const BUILT_IN_MODEL = { EMBEDD_MODEL_PATH: "", EMBEDD_MODEL_NAME: "" };

const smallModel = (): Record<string, string> => ({
  EMBEDD_MODEL_PATH: inject("smallModel"),
  EMBEDD_MODEL_NAME: "all-MiniLM-L6-v2",
});

function environment(extra: Record<string, string>): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(
    ([name]) => name !== "DATABASE_URL" && !name.startsWith("EMBEDD_") && !name.startsWith("VITEST"),
  );
  return { ...Object.fromEntries(inherited), ...WITHOUT_TIMERS, ...smallModel(), NO_COLOR: "1", ...extra };
}

/** Starts the built command, `embedd …`, from inside a test; it is killed when the test ends. */
export function spawnCli(
  args: string[],
  { env = {}, cwd, input, main = builtMain }: CliOptions = {},
): CliProcess {
  const child = spawn(process.execPath, [main, ...args], {
    env: environment(env),
    ...(cwd !== undefined && { cwd }),
    stdio: ["pipe", "pipe", "pipe"],
  });
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  let ended = false;
  const exited = new Promise<CliExit>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      ended = true;
      resolve({ code, signal, ...output });
    });
  });
  onTestFinished(async () => {
    if (!ended) child.kill("SIGKILL");
    await exited;
  });

  function findLine(pattern: RegExp): string | undefined {
    return `${output.stdout}\n${output.stderr}`.split("\n").find((line) => pattern.test(line));
  }
  return {
    child,
    exited,
    get stdout() {
      return output.stdout;
    },
    get stderr() {
      return output.stderr;
    },
    waitForLine: (pattern) =>
      waitFor(
        () => {
          const line = findLine(pattern);
          if (line === undefined && ended) {
            throw new Error(
              `embedd ${args.join(" ")} ended without ${String(pattern)}:\n${output.stderr}${output.stdout}`,
            );
          }
          return line;
        },
        { what: `a line like ${String(pattern)} of embedd ${args.join(" ")}` },
      ),
  };
}
