import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, chown, mkdir, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { openEmbedded } from "#embedd/embedded/index.js";
import { makeFolder } from "#embedd/embedded/private-folder.js";
import { temporaryFolder } from "../../helpers/programs.js";
import { makeReadOnly, NO_MOUNT, smallDisk } from "../../helpers/small-disk.js";

const run = promisify(execFile);
const itWithMount = NO_MOUNT === "" ? it : it.skip;
const itOnLinux = existsSync("/proc/self") ? it : it.skip;

const ANOTHER_FOLDER = 'export EMBEDD_DATA_DIR="$HOME/.embedd"  # or another folder of your own';

async function makeDatabase(dataDir: string): Promise<void> {
  const server = await openEmbedded({ dataDir });
  await server.stop();
}

/** Fills a disk to its last byte. @returns the file to remove */
async function fill(disk: string): Promise<string> {
  const path = join(disk, "fill");
  await expect(writeFile(path, Buffer.alloc(2 ** 27))).rejects.toMatchObject({ code: "ENOSPC" });
  return path;
}

itWithMount(
  `a start on a disk that is too small says so, and leaves the space as it was${NO_MOUNT}`,
  async () => {
    const disk = smallDisk(8);
    await expect(openEmbedded({ dataDir: join(disk, "data") })).rejects.toMatchObject({
      code: "embedded_start",
      message: `embedded PostgreSQL cannot start in ${disk}/data: ENOSPC: no space left on device`,
      hint: `df -h ${disk}  # free 100 MB there, and run the command again\n${ANOTHER_FOLDER}`,
    });
    expect(await readdir(disk)).toEqual([]);
  },
);

itWithMount(
  `a database on a full disk is left as it is, and opens when there is space again${NO_MOUNT}`,
  async () => {
    const disk = smallDisk(60);
    const dataDir = join(disk, "data");
    await makeDatabase(dataDir);
    const filling = await fill(disk);
    await expect(openEmbedded({ dataDir })).rejects.toMatchObject({
      code: "embedded_start",
      message: expect.stringMatching(/ENOSPC: no space left on device/) as string,
      hint: expect.stringMatching(/^df -h /) as string,
    });
    expect((await readdir(disk)).sort()).toEqual(["data", "fill"]);
    await rm(filling);
    await makeDatabase(dataDir);
  },
);

itWithMount(`a read-only database is not called broken${NO_MOUNT}`, async () => {
  const folder = await temporaryFolder();
  const dataDir = join(folder, "data");
  await makeDatabase(dataDir);
  for (const readOnly of [dataDir, folder]) {
    makeReadOnly(readOnly);
    await expect(openEmbedded({ dataDir })).rejects.toMatchObject({
      code: "embedded_start",
      message: expect.stringMatching(/read-only file system/i) as string,
      hint: ANOTHER_FOLDER,
    });
  }
});

it("a start in a folder without the right to write names the right", async () => {
  const folder = await temporaryFolder();
  const closed = join(folder, "closed");
  await mkdir(closed);
  await chmod(folder, 0o755);
  await chmod(closed, 0o555);
  // Root may write anywhere.
  const uid = process.getuid?.() === 0 ? 65_534 : undefined;
  if (uid !== undefined) await chown(closed, uid, uid);
  const program = `
    import { openEmbedded } from "#embedd/embedded/index.js";
    for (const dataDir of process.argv.slice(1))
      await openEmbedded({ dataDir }).catch(({ code, message, hint }) => console.log(\`\${code}: \${message}: \${hint}\`));
  `;
  const args = ["--input-type=module", "-e", program, "--", join(closed, "data"), join(closed, "new/data")];
  const { stdout } = await run(process.execPath, args, uid === undefined ? {} : { uid, gid: uid });
  expect(stdout).toMatch(/embedded_start: .*closed\/data: EACCES: permission denied/);
  expect(stdout).toMatch(/embedded_start: .*closed\/new\/data: EACCES: permission denied/);
  expect(stdout.split(`: chmod u+rwx ${closed}\n${ANOTHER_FOLDER}\n`)).toHaveLength(3);
});

itOnLinux("a start where the system makes no folders ends", async () => {
  await expect(openEmbedded({ dataDir: "/proc/embedd/data" })).rejects.toMatchObject({
    code: "embedded_start",
    message: expect.stringMatching(/ENOENT: no such file or directory, mkdir '\/proc\/embedd'/) as string,
    hint: ANOTHER_FOLDER,
  });
});

it("a start at a link to a folder that does not exist names the folder, and its cure makes it", async () => {
  const folder = await temporaryFolder();
  await symlink("missing/own", join(folder, "link"));
  const failure = openEmbedded({ dataDir: join(folder, "link", "data") });
  const hint = `mkdir -p ${folder}/missing/own`;
  await expect(failure).rejects.toMatchObject({
    code: "embedded_start",
    message: `${folder}/link is a symbolic link to ${folder}/missing/own, which does not exist`,
    hint,
  });
  await run("sh", ["-c", hint]);
  await makeFolder(join(folder, "link"));
});

it("a start of a database that is broken gives PostgreSQL's reason, and its cure makes room for a new one", async () => {
  const folder = await temporaryFolder();
  const dataDir = join(folder, "data");
  await mkdir(dataDir);
  await writeFile(join(dataDir, "PG_VERSION"), "9\n");
  const hint = `mv ${dataDir} ${dataDir}.broken`;
  await expect(openEmbedded({ dataDir: `${dataDir}/` })).rejects.toMatchObject({
    code: "embedded_start",
    message: expect.stringMatching(/could not access the server configuration file/) as string,
    hint,
  });
  await run("sh", ["-c", hint]);
  expect(await readdir(folder)).toEqual(["data.broken"]);
});
