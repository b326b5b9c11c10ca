import { execFile } from "node:child_process";
import { chmod, chown, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { KEY, createWatchedDocs, startScriptedApi } from "../../helpers/api-cli.js";
import { spawnCli } from "../../helpers/cli.js";
import type { CliExit } from "../../helpers/cli.js";
import { useDatabase } from "../../helpers/database.js";

const db = useDatabase();
const STRANGER = "http://embedding.invalid:81/v1";
const givenAway: [string, (file: string) => Promise<void>] = [
  "it belongs to another user",
  (file) => chown(file, 65_534, 65_534),
];
/** Another address of this machine than its loopback stands for another machine. */
const outside = Object.values(networkInterfaces())
  .flat()
  .find((address) => address?.family === "IPv4" && !address.internal)?.address;
const needsOutside = outside === undefined ? " [needs an IPv4 address besides the loopback]" : "";
const isRoot = process.getuid?.() === 0;

async function folderWith(lines: Record<string, string>): Promise<{ folder: string; file: string }> {
  const folder = await mkdtemp(join(tmpdir(), "embedd-env-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, ".env");
  await writeFile(
    file,
    Object.entries(lines)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(""),
    { mode: 0o600 },
  );
  return { folder, file };
}

const run = (cwd: string, args: string[], env: Record<string, string> = {}): Promise<CliExit> =>
  spawnCli(args, { cwd, env }).exited;

describe("a .env file of the working directory", () => {
  it("gives embedd its settings, and the environment wins", async () => {
    const docs = await createWatchedDocs(db, 2);
    const { folder } = await folderWith({ DATABASE_URL: docs.url, EMBEDD_LOG_LEVEL: "loud" });
    expect(await run(folder, ["status"])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("EMBEDD_LOG_LEVEL") as string,
    });
    const { code, stdout } = await run(folder, ["status"], { EMBEDD_LOG_LEVEL: "info" });
    expect(stdout).toContain("docs");
    expect(code).toBe(0);
  });

  it("sets nothing but embedd's own variables", async () => {
    const docs = await createWatchedDocs(db, 1);
    const { folder } = await folderWith({
      DATABASE_URL: docs.url,
      PGOPTIONS: "-c statement_timeout=x",
      NODE_DEBUG: "net",
    });
    const { code, stderr } = await run(folder, ["status"]);
    expect(stderr).toBe("");
    expect(code).toBe(0);
  });

  it.each<[string, (file: string) => Promise<void>]>([
    ["every user may write to it", (file) => chmod(file, 0o602)],
    // Only root can give a file away.
    ...(isRoot ? [givenAway] : []),
  ])("is not read, and embedd says so, if %s", async (why, spoil) => {
    const { folder, file } = await folderWith({ EMBEDD_LOG_LEVEL: "loud" });
    await spoil(file);
    const docs = await createWatchedDocs(db, 1);
    const { code, stderr } = await run(folder, ["status"], { DATABASE_URL: docs.url });
    expect(stderr).toBe(`embedd: .env is ignored: ${why}\n`);
    expect(code).toBe(0);
  });

  it("is not meant by a folder of that name, such as a virtual environment of Python", async () => {
    const { folder, file } = await folderWith({});
    await putThere(file, "a folder");
    const docs = await createWatchedDocs(db, 1);
    expect(await run(folder, ["status"], { DATABASE_URL: docs.url })).toMatchObject({ code: 0, stderr: "" });
  });

  it.each(["a FIFO", "a link to /dev/zero", "3 GB", "a file of unknown size"])(
    "does not stop embedd if it is %s",
    async (what) => {
      const { folder, file } = await folderWith({});
      await putThere(file, what);
      const docs = await createWatchedDocs(db, 1);
      const { code, stderr } = await run(folder, ["status"], { DATABASE_URL: docs.url });
      expect(stderr).toMatch(
        /^embedd: \.env is ignored: it (is not a regular file|has more than 1048576 bytes)\n$/,
      );
      expect(code).toBe(0);
    },
  );

  it.each<[string, Record<string, string>, Record<string, string>]>([
    ["OPENAI_API_KEY", { EMBEDD_BASE_URL: STRANGER }, { OPENAI_API_KEY: KEY }],
    ["EMBEDD_API_KEY", { EMBEDD_BASE_URL: STRANGER }, { EMBEDD_API_KEY: KEY }],
    [
      "EMBEDD_HEADERS",
      { EMBEDD_BASE_URL: STRANGER },
      { EMBEDD_HEADERS: `{"x-key": "${KEY}"}`, EMBEDD_API_KEY: "" },
    ],
    ["EMBEDD_API_KEY_FILE", { EMBEDD_BASE_URL: STRANGER, EMBEDD_API_KEY_FILE: "/etc/hostname" }, {}],
  ])("does not choose the server that %s is sent to", async (secret, lines, env) => {
    const docs = await createWatchedDocs(db, 1);
    const { folder } = await folderWith({ EMBEDD_PROVIDER: "openai", ...lines });
    const { code, stderr } = await run(folder, ["run", "--once"], { DATABASE_URL: docs.url, ...env });
    expect(stderr).toContain(
      `.env sets EMBEDD_BASE_URL, so the secret in ${secret} would be sent to a server`,
    );
    expect(stderr).toContain(`try: export EMBEDD_BASE_URL=${STRANGER}\n`);
    expect(stderr).not.toContain(KEY);
    expect(code).toBe(2);
  });

  it("does not choose the server that PGPASSWORD is sent to", async () => {
    const { folder } = await folderWith({ DATABASE_URL: "postgres://postgres@database.invalid/app" });
    const { code, stderr } = await run(folder, ["status"], { PGPASSWORD: "secret-of-the-user" });
    expect(stderr).toContain(".env sets DATABASE_URL, so the secret in PGPASSWORD would be sent to a server");
    expect(code).toBe(2);
  });

  it.skipIf(outside === undefined)(
    `does not choose the server that a password of .pgpass is sent to${needsOutside}`,
    async () => {
      const received: Buffer[] = [];
      const server = createServer((socket) => {
        socket.once("data", () => {
          socket.write(Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 3]));
          socket.on("data", (bytes) => {
            received.push(bytes);
            socket.destroy();
          });
        });
        socket.on("error", () => undefined);
      }).listen(0, outside);
      await once(server, "listening");
      onTestFinished(() => void server.close());
      const { port } = server.address() as AddressInfo;
      const { folder } = await folderWith({ DATABASE_URL: `postgres://u@${outside}:${port}/d` });
      const passwords = join(folder, "passwords");
      await writeFile(passwords, "*:*:*:*:secret-of-the-user\n", { mode: 0o600 });
      const { code, stderr } = await run(folder, ["status"], { PGPASSFILE: passwords });
      expect(Buffer.concat(received).toString()).not.toContain("secret-of-the-user");
      expect(stderr).not.toContain("Warning");
      expect(code).toBe(4);
      // Named by the environment, it gets the password.
      const url = `postgres://u@${outside}:${port}/d`;
      await run(folder, ["status"], { PGPASSFILE: passwords, DATABASE_URL: url });
      expect(Buffer.concat(received).toString()).toContain("secret-of-the-user");
    },
  );

  it("is believed once its address is in the environment, as the hint types it", async () => {
    const server = await startScriptedApi({ key: () => KEY });
    const docs = await createWatchedDocs(db, 2);
    const { folder } = await folderWith({ EMBEDD_PROVIDER: "openai", EMBEDD_BASE_URL: STRANGER });
    const env = { DATABASE_URL: docs.url, OPENAI_API_KEY: KEY };
    const { stderr } = await run(folder, ["run", "--once"], env);
    const typed = /try: (.+)\n/.exec(stderr)?.[1] ?? "";
    const { stdout } = await promisify(execFile)("sh", ["-c", `${typed}; printf %s "$EMBEDD_BASE_URL"`], {
      cwd: folder,
    });
    expect(stdout).toBe(STRANGER);
    const again = await run(folder, ["run", "--once"], { ...env, EMBEDD_BASE_URL: server.url });
    expect(again.code).toBe(0);
  });

  it("may name a server of this machine, or bring the key along", async () => {
    const server = await startScriptedApi({ key: () => KEY });
    const docs = await createWatchedDocs(db, 2);
    const local = await folderWith({ EMBEDD_PROVIDER: "openai", EMBEDD_BASE_URL: server.url });
    const own = await run(local.folder, ["run", "--once"], { DATABASE_URL: docs.url, OPENAI_API_KEY: KEY });
    expect(own.code).toBe(0);
    const whole = await folderWith({
      DATABASE_URL: docs.url,
      EMBEDD_PROVIDER: "openai",
      EMBEDD_BASE_URL: STRANGER,
      OPENAI_API_KEY: KEY,
    });
    expect((await run(whole.folder, ["status"])).code).toBe(0);
  });
});

describe("a certificate that DATABASE_URL names", () => {
  it.each(["a FIFO", "a link to /dev/zero", "a file of unknown size"])(
    "is refused at once if it is %s",
    async (what) => {
      const { folder, file } = await folderWith({});
      const path = join(folder, "certificate");
      await rm(file);
      await putThere(path, what);
      for (const name of ["sslcert", "sslkey", "sslrootcert"]) {
        const DATABASE_URL = `postgres://u@localhost:1/d?${name}=${path}`;
        const { code, stderr } = await run(folder, ["status"], { DATABASE_URL });
        expect(stderr).toMatch(
          /a file that DATABASE_URL names cannot be read: it (is not a regular|has more than)/,
        );
        expect(code).toBe(4);
      }
    },
  );
});

describe("EMBEDD_API_KEY_FILE", () => {
  it.each(["a FIFO", "a folder", "a link to /dev/zero", "3 GB"])(
    "is refused at once if it is %s",
    async (what) => {
      const server = await startScriptedApi({ key: () => KEY });
      const docs = await createWatchedDocs(db, 1);
      const { folder, file } = await folderWith({});
      const path = join(folder, "key");
      await putThere(path, what);
      await rm(file);
      const { code, stderr } = await run(folder, ["run", "--once"], {
        DATABASE_URL: docs.url,
        EMBEDD_PROVIDER: "openai",
        EMBEDD_BASE_URL: server.url,
        EMBEDD_API_KEY_FILE: path,
      });
      expect(stderr).toMatch(
        /EMBEDD_API_KEY_FILE: cannot read \S+\/key \(it (is not a regular file|has more than 1048576 bytes)\)/,
      );
      expect(code).toBe(2);
    },
  );
});

/** Puts something there that a program might read without an end. */
async function putThere(path: string, what: string): Promise<void> {
  await rm(path, { force: true });
  if (what === "a FIFO") await promisify(execFile)("mkfifo", [path]);
  else if (what === "a folder") await promisify(execFile)("mkdir", [path]);
  // A regular file of 0 bytes, which has no end.
  else if (what === "a file of unknown size")
    await promisify(execFile)("ln", ["-s", "/proc/self/pagemap", path]);
  else if (what === "a link to /dev/zero") await promisify(execFile)("ln", ["-s", "/dev/zero", path]);
  else {
    const file = await open(path, "w");
    await file.truncate(3 * 2 ** 30);
    await file.close();
  }
}
